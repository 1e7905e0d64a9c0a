"""The placement of a model: which device it runs on, and why a host is refused before the server is ready."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.artifact import Batching, Manifest, VariableAxis
from server.backends import backend_for
from server.errors import BadSetting
from server.models.load.context import LoadContext
from server.models.load.placement import (
    backend_options,
    device_of,
    needed_bytes,
    target_of,
    too_large,
    unsuitable,
    unused_gpus,
)
from server.settings.options import Settings
from server.system.gpu import Gpu, Gpus
from server.target import BucketBytes, ClosedShapes, DeviceTarget
from server.tensors import ModelSpec

BARE = Manifest("m", "1", "onnxruntime", "model.onnx", ModelSpec((), ()))
CUDA = replace(BARE, backend="onnxruntime_cuda", device=DeviceTarget("cuda", options={"tf32": True}))
ENGINE = replace(
    BARE,
    backend="tensorrt",
    device=DeviceTarget("tensorrt", 90, 89, 580, {"tensorrt": "10.16.1.11"}, bytes=700),
    shapes=ClosedShapes((1, 8), (16,), (BucketBytes(1, 16, 10), BucketBytes(8, 16, 50))),
)
INSTALLED = {"tensorrt": "10.16.1.11"}


@pytest.mark.parametrize(
    ("manifest", "setting", "kind"),
    [
        (BARE, "auto", "cpu"),
        (BARE, "cuda", "cuda"),
        (CUDA, "auto", "cuda"),
        (CUDA, "cpu", "cpu"),
        (ENGINE, "auto", "tensorrt"),
        (ENGINE, "tensorrt", "tensorrt"),
    ],
)
def test_the_setting_decides_over_the_manifest(manifest: Manifest, setting: str, kind: str) -> None:
    assert device_of(manifest, Settings(device=setting)) == kind


def test_options_that_were_measured_for_one_device_do_not_count_on_another() -> None:
    assert target_of(CUDA, Settings()).options == {"tf32": True}
    assert target_of(CUDA, Settings(device="tensorrt")).options == {}


def test_an_engine_does_not_run_anywhere_else() -> None:
    with pytest.raises(BadSetting, match="built for tensorrt and cannot run on cpu"):
        device_of(ENGINE, Settings(device="cpu"))


@pytest.mark.parametrize(
    ("driver", "sm", "versions", "said"),
    [
        (580, 90, INSTALLED, ""),
        (0, 90, INSTALLED, ""),
        (580, None, INSTALLED, ""),
        (550, 90, INSTALLED, "driver of 580 or newer, and 550 is installed; on SageMaker: InferenceAmiVersion al2023"),
        (580, 89, INSTALLED, "built for GPUs of SM 90, and this one has SM 89"),
        (580, 90, {"tensorrt": None}, "needs the package tensorrt 10.16.1.11, which is not installed"),
        (580, 90, {"tensorrt": "11.4.0"}, "built with tensorrt 10.16.1.11, and 11.4.0 is installed"),
    ],
)
def test_a_host_that_differs_is_told_how(
    driver: int, sm: int | None, versions: dict[str, str | None], said: str
) -> None:
    reason = unsuitable(ENGINE.device, driver, sm, versions)
    assert said in reason
    assert bool(said) == bool(reason)


def test_the_backend_follows_the_device_and_a_model_of_the_cpu_alone_is_refused_elsewhere() -> None:
    pairs = [
        ("onnxruntime", "cuda"),
        ("onnxruntime_cuda", "cpu"),
        ("onnxruntime_cuda", "cuda"),
        ("tensorrt", "tensorrt"),
    ]
    assert [backend_for(*one) for one in pairs] == ["onnxruntime_cuda", "onnxruntime", "onnxruntime_cuda", "tensorrt"]
    openvino = replace(BARE, backend="openvino", model="model.xml")
    assert device_of(openvino, Settings(device="cpu")) == "cpu"
    with pytest.raises(BadSetting, match="openvino, which runs on the CPU only"):
        device_of(openvino, Settings(device="cuda"))


def test_an_older_gpu_than_the_least_one_is_refused() -> None:
    assert "SM 80 or newer, and this one has SM 75" in unsuitable(DeviceTarget("cuda", least_sm=80), 580, 75, {})
    assert not unsuitable(DeviceTarget("cuda", least_sm=80), 580, 90, {})


def test_two_batches_may_be_under_way_on_each_gpu() -> None:
    for gpus, slots in ((1, 2), (4, 8), (0, 2)):  # 0: all of a host without CUDA
        context = LoadContext.of(Settings(gpus=gpus), None, lambda _reason: None)
        assert context.gpus.queue.slots == slots


def test_gpus_that_nothing_asks_for_are_counted() -> None:
    host = Gpus((Gpu(0, "L4", "GPU-0", 89, 1, 0, False, None, None, None),))
    given = [(BARE, "auto"), (BARE, "cpu"), (CUDA, "auto"), (replace(BARE, backend="openvino"), "auto")]
    assert [unused_gpus(one, Settings(device=device), lambda: host) for one, device in given] == [1, 0, 0, 0]


def test_weights_and_the_largest_bucket_have_to_fit() -> None:
    assert needed_bytes(ENGINE) == 750
    assert needed_bytes(BARE) == 0
    assert not too_large(750, 750)
    assert "0.00 GB are free" in too_large(750, 749)


def test_the_backend_gets_closed_shapes_only_on_a_gpu() -> None:
    batching = Batching((1, 4), 2, 1)
    padded = replace(BARE, padding=VariableAxis({"ids": (1, 0.0)}, {}, (8, 16)))
    assert backend_options(padded, Settings(), batching).shapes is None
    options = backend_options(padded, Settings(device="cuda", gpu_memory_mb=3), batching)
    assert options.shapes == ClosedShapes((1, 4), (8, 16))
    assert (options.device, options.lanes, options.ordinals, options.memory_bytes) == ("cuda", 2, (0,), 3_000_000)
