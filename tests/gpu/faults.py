"""Stages: what ONNX Runtime says when device memory runs out, and when the device is lost."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from . import sessions
from .provider import small_graph
from .record import NotRun, Record
from .stages import Place

WRITE_TO_ZERO = b"""
.version 6.5
.target sm_75
.address_size 64
.visible .entry broken() {
    .reg .b64 %address;
    .reg .b32 %value;
    mov.u64 %address, 0;
    mov.u32 %value, 7;
    st.global.u32 [%address], %value;
    ret;
}
"""
"""A kernel that writes to address 0: CUDA answers error 700 from then on, whatever is called."""


def out_of_memory(place: Place, record: Record) -> None:
    """A batch that cannot fit fails; the session then still answers one that can."""
    if not place.on_gpu:
        raise NotRun("it needs a GPU")
    model = _growing_graph()
    session = sessions.open_session(place, model, gpu_mem_limit=str(256 << 20))
    few = {"x": np.ones((4, 1024), np.float32)}
    wanted = sessions.run(session, few)
    many = {"x": np.ones((64 << 10, 1024), np.float32)}
    _expect(record, "over gpu_mem_limit", session, many)
    again = sessions.run(session, few)
    record.check("the session answers after it", bool(np.array_equal(wanted[0], again[0])), of_values=True)

    library = ctypes.CDLL("libcudart.so.13")
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    session = sessions.open_session(place, model, arena_extend_strategy="kSameAsRequested")
    sessions.run(session, few)
    library.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    taken = ctypes.c_void_p()
    library.cudaMalloc.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t]
    code = library.cudaMalloc(ctypes.byref(taken), free.value - (200 << 20))
    record.check(
        "the rest of the device is taken", code == 0, f"{free.value:,} bytes were free, cudaMalloc said {code}"
    )
    _expect(record, "on a full device", session, many)
    library.cudaFree(taken)
    again = sessions.run(session, few)
    record.check("the session answers after that", bool(np.array_equal(wanted[0], again[0])), of_values=True)


def lost_device(place: Place, record: Record) -> None:
    """After an illegal access every run fails, and what it says can be recognised."""
    if not place.on_gpu:
        raise NotRun("it needs a GPU")
    session = sessions.open_session(place, small_graph())
    feeds = {"x": np.ones((2, 3, 16, 16), np.float32)}
    sessions.run(session, feeds)
    library = ctypes.CDLL("libcudart.so.13")
    if place.device == "fake":
        from tests.gpu.fake import counters

        counters.fail(700)
    else:
        record.fact("kernel that writes to address 0", break_context())
    for attempt in range(3):
        _expect(record, f"run {attempt + 1}", session, feeds)
        code = int(library.cudaPeekAtLastError())
        record.fact(f"run {attempt + 1}: cudaPeekAtLastError", code)
    code = int(library.cudaDeviceSynchronize())
    record.check("the error stays", code == 700, f"cudaDeviceSynchronize says {code}")
    record.end()
    os._exit(0)  # what the libraries do at exit in a lost context is not this stage's question


def _expect(record: Record, name: str, session: Any, feeds: Any) -> None:
    try:
        sessions.run(session, feeds)
    except Exception as error:  # noqa: BLE001 - any failure will do: its words are the finding
        record.fact(f"{name}: what ONNX Runtime says", f"{type(error).__name__}: {' '.join(str(error).split())[:900]}")
        record.check(f"{name}: the run fails", True)
    else:
        record.check(f"{name}: the run fails", False, "it answered")


def _growing_graph() -> bytes:
    """``x`` float32 [rows, 1024] to the largest exponential of each row, through a value of 16 times its size."""
    nodes = [
        helper.make_node("Concat", ["x"] * 16, ["wide"], axis=1),
        helper.make_node("Exp", ["wide"], ["grown"]),
        helper.make_node("ReduceMax", ["grown", "axes"], ["y"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "growing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1024])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model: Any = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def break_context() -> dict[str, int]:
    """Launch the kernel in the context that ONNX Runtime uses. Returns the code of each call of the driver."""
    driver = ctypes.CDLL("libcuda.so.1")
    context, module, function = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    null = ctypes.c_void_p()
    codes = {
        "cuDevicePrimaryCtxRetain": driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
        "cuCtxSetCurrent": driver.cuCtxSetCurrent(context),
        "cuModuleLoadData": driver.cuModuleLoadData(ctypes.byref(module), WRITE_TO_ZERO),
        "cuModuleGetFunction": driver.cuModuleGetFunction(ctypes.byref(function), module, b"broken"),
    }
    codes["cuLaunchKernel"] = driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, null, null, null)
    codes["cuCtxSynchronize"] = driver.cuCtxSynchronize()
    return codes
