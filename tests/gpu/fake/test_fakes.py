"""The fakes answer as CUDA and NVML do, to the real onnxruntime-gpu and to nvidia-ml-py."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.onnx_graphs import FLOAT, graph, node

from . import counters

ROWS = 4
OUT_OF_MEMORY, INSUFFICIENT_DRIVER, NO_DEVICE = 2, 35, 100
ILLEGAL_ADDRESS, IN_CAPTURE, INVALIDATED = 700, 900, 901


@pytest.fixture(scope="module", autouse=True)
def _libraries() -> None:
    ort.preload_dlls()


@pytest.fixture
def cuda() -> ctypes.CDLL:
    return ctypes.CDLL("libcudart.so.13")


@pytest.fixture
def nvml() -> Any:
    # By name, because the project's own environment need not have it.
    pynvml = importlib.import_module("pynvml")
    pynvml.nvmlInit()
    return pynvml


def convolutions() -> bytes:
    random = np.random.default_rng(0)
    shapes = {"w": (8, 1, 3, 3), "b": (8,), "v": (128, 10), "c": (10,)}
    nodes = [
        node("Conv", "x w b", "h", pads=[1, 1, 1, 1]),
        node("Relu", "h", "r"),
        node("MaxPool", "r", "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "m", "f"),
        node("Gemm", "f v c", "y"),
    ]
    constants = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    made = graph(nodes, [("x", FLOAT, ["n", 1, 8, 8])], [("y", FLOAT, ["n", 10])], constants)
    return bytes(made.SerializeToString())


def session(**options: str) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    settings.log_severity_level = 4
    return ort.InferenceSession(convolutions(), settings, providers=[("CUDAExecutionProvider", options)])


def bound(made: ort.InferenceSession) -> tuple[Any, Any]:
    """A binding of device buffers for ``ROWS`` rows, and the buffers, which the caller has to keep."""
    binding = made.io_binding()
    x = ort.OrtValue.ortvalue_from_numpy(np.ones((ROWS, 1, 8, 8), np.float32), "cuda", 0)
    y = ort.OrtValue.ortvalue_from_shape_and_type([ROWS, 10], np.float32, "cuda", 0)
    binding.bind_ortvalue_input("x", x)
    binding.bind_ortvalue_output("y", y)
    return binding, (x, y)


def test_the_real_provider_takes_every_node_and_replays_its_graph() -> None:
    made = session(enable_cuda_graph="1")
    owners = {part.ep_name: len(part.get_nodes()) for part in made.get_provider_graph_assignment_info()}
    assert owners.keys() == {"CUDAExecutionProvider"}
    binding, _buffers = bound(made)
    made.run_with_iobinding(binding)
    warm = counters.read()
    assert warm.kernel_launches > 0
    assert warm.captured_launches > 0
    assert warm.captures == 1
    counters.reset()
    for _ in range(3):
        made.run_with_iobinding(binding)
    replayed = counters.read()
    assert (replayed.kernel_launches, replayed.graph_launches, replayed.captures) == (0, 3, 0)


def test_without_a_graph_every_run_launches_its_kernels() -> None:
    made = session()
    binding, _buffers = bound(made)
    launches = []
    for _ in range(3):
        counters.reset()
        made.run_with_iobinding(binding)
        launches.append(counters.read().kernel_launches)
    assert launches[1] == launches[2] > 0
    assert counters.read().graph_launches == 0


def test_copies_are_counted_by_direction() -> None:
    made = session()
    counters.reset()
    made.run(None, {"x": np.ones((ROWS, 1, 8, 8), np.float32)})
    counts = counters.read()
    assert (counts.bytes_to_device, counts.bytes_to_host) == (ROWS * 64 * 4, ROWS * 10 * 4)


def test_a_graph_replays_its_copies_at_the_captured_addresses(cuda: ctypes.CDLL) -> None:
    stream, graph_, runnable = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    device, host, back = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cudaMalloc(ctypes.byref(device), 4) == 0
    assert cuda.cudaMallocHost(ctypes.byref(host), 4) == cuda.cudaMallocHost(ctypes.byref(back), 4) == 0
    assert cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert cuda.cudaMemcpyAsync(device, host, ctypes.c_size_t(4), 1, stream) == 0
    assert cuda.cudaMemcpyAsync(back, device, ctypes.c_size_t(4), 2, stream) == 0
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph_)) == 0
    assert cuda.cudaGraphInstantiate(ctypes.byref(runnable), graph_, ctypes.c_ulonglong(0)) == 0
    ctypes.memmove(host, b"abcd", 4)
    assert ctypes.string_at(back, 4) == bytes(4)
    assert cuda.cudaGraphLaunch(runnable, stream) == 0
    assert ctypes.string_at(back, 4) == b"abcd"
    assert counters.read().pageable_async_copies == 0


def test_memory_cannot_be_allocated_during_a_capture(cuda: ctypes.CDLL) -> None:
    stream, graph_, pointer = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    assert cuda.cudaStreamCreateWithFlags(ctypes.byref(stream), 1) == 0
    assert cuda.cudaStreamBeginCapture(stream, 0) == 0
    assert cuda.cudaMalloc(ctypes.byref(pointer), 4) == IN_CAPTURE
    assert cuda.cudaStreamEndCapture(stream, ctypes.byref(graph_)) == INVALIDATED
    assert counters.read().refused_in_capture == 1
    assert cuda.cudaMalloc(ctypes.byref(pointer), 4) == 0


def test_an_asynchronous_copy_from_pageable_memory_is_counted(cuda: ctypes.CDLL) -> None:
    device, values = ctypes.c_void_p(), np.zeros(8, np.float32)
    assert cuda.cudaMalloc(ctypes.byref(device), 32) == 0
    assert cuda.cudaMemcpyAsync(device, ctypes.c_void_p(values.ctypes.data), ctypes.c_size_t(32), 1, None) == 0
    assert counters.read().pageable_async_copies == 1


def test_memory_ends_where_the_device_s_memory_ends(cuda: ctypes.CDLL, nvml: Any) -> None:
    handle, pointer = nvml.nvmlDeviceGetHandleByIndex(0), ctypes.c_void_p()
    before = nvml.nvmlDeviceGetMemoryInfo(handle)
    assert cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(before.free + 1)) == OUT_OF_MEMORY
    assert cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(64 << 20)) == 0
    assert nvml.nvmlDeviceGetMemoryInfo(handle).used - before.used == 64 << 20
    assert cuda.cudaFree(pointer) == 0
    assert nvml.nvmlDeviceGetMemoryInfo(handle).used == before.used


def test_a_model_that_does_not_fit_fails_as_on_a_device() -> None:
    made = session(gpu_mem_limit=str(1 << 20))
    with pytest.raises(Exception, match=r"[Aa]lloc"):
        made.run(None, {"x": np.ones((1 << 16, 1, 8, 8), np.float32)})


def test_a_lost_device_stays_lost(cuda: ctypes.CDLL) -> None:
    made = session()
    counters.fail(ILLEGAL_ADDRESS, after_launches=1)
    for _ in range(2):
        # The library that meets the error names its own code.
        with pytest.raises(Exception, match=r"CUDNN failure 5000|CUDA failure 700"):
            made.run(None, {"x": np.ones((1, 1, 8, 8), np.float32)})
        assert cuda.cudaGetLastError() == ILLEGAL_ADDRESS


def test_nvml_sees_the_described_devices(nvml: Any) -> None:
    counters.configure(
        "name=Tesla T4,sm=75,memory_mib=15360,driver=535.183.01,utilization=7;name=H100,sm=90,mig=1,ecc_errors=2"
    )
    try:
        assert nvml.nvmlDeviceGetCount() == 2
        t4, h100 = map(nvml.nvmlDeviceGetHandleByIndex, range(2))
        assert nvml.nvmlDeviceGetName(t4) == "Tesla T4"
        assert nvml.nvmlDeviceGetUUID(t4) != nvml.nvmlDeviceGetUUID(h100)
        assert nvml.nvmlDeviceGetCudaComputeCapability(t4) == (7, 5)
        assert nvml.nvmlDeviceGetMemoryInfo(t4).total == 15360 << 20
        assert nvml.nvmlDeviceGetUtilizationRates(t4).gpu == 7
        assert nvml.nvmlDeviceGetMigMode(h100) == [1, 1]
        assert nvml.nvmlDeviceGetTotalEccErrors(h100, 1, 0) == 2
        assert nvml.nvmlSystemGetDriverVersion() == "535.183.01"
        assert nvml.nvmlSystemGetCudaDriverVersion_v2() == 12020
        with pytest.raises(nvml.NVMLError_NotSupported):
            nvml.nvmlDeviceGetMigMode(t4)
    finally:
        counters.configure("sm=89")


@pytest.mark.parametrize(("devices", "error"), [("driver=535.183.01", INSUFFICIENT_DRIVER), ("none", NO_DEVICE)])
def test_what_cuda_13_cannot_use_is_refused(cuda: ctypes.CDLL, devices: str, error: int) -> None:
    counters.configure(devices)
    try:
        count = ctypes.c_int(-1)
        assert cuda.cudaGetDeviceCount(ctypes.byref(count)) == error
        assert count.value == 0
    finally:
        counters.configure("sm=89")


def test_hidden_devices_are_hidden_from_cuda_only(
    cuda: ctypes.CDLL, nvml: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    counters.configure("sm=75;sm=90")
    try:
        count, major = ctypes.c_int(), ctypes.c_int()
        assert cuda.cudaGetDeviceCount(ctypes.byref(count)) == 0
        assert cuda.cudaDeviceGetAttribute(ctypes.byref(major), 75, 0) == 0
        assert (count.value, major.value, nvml.nvmlDeviceGetCount()) == (1, 9, 2)
    finally:
        monkeypatch.undo()
        counters.configure("sm=89")
