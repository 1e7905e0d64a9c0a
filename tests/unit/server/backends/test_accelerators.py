"""Devices of the ONNX Runtime backend: what is asked for is given, or refused; there is no quiet way to the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from server.backends import BackendOptions, onnxruntime
from server.errors import BadSetting
from tests.integration import sample_models

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("device", "built_with", "wanted"),
    [
        ("cpu", [TENSORRT, CUDA, CPU], [CPU]),
        ("cuda", [TENSORRT, CUDA, CPU], [CUDA, CPU]),
        ("tensorrt", [TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]),
    ],
)
def test_providers_of_a_device(device: str, built_with: list[str], wanted: list[str]) -> None:
    assert onnxruntime.available(device, built_with) == wanted


@pytest.mark.parametrize(("device", "missing"), [("cuda", CUDA), ("tensorrt", TENSORRT)])
def test_a_runtime_that_was_built_without_the_device_is_refused(device: str, missing: str) -> None:
    with pytest.raises(BadSetting, match=f"needs {missing}, which the installed ONNX Runtime does not have"):
        onnxruntime.available(device, [CPU])


def test_a_session_that_fell_back_to_the_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sample_models.mlp(tmp_path / "mlp.onnx")
    real = ort.InferenceSession
    asked: list[list[str]] = []

    def without_driver(path: str, settings: Any, providers: list[str]) -> Any:
        """As ONNX Runtime does where the provider is built in and the driver is missing: it goes on, on the CPU."""
        asked.append(providers)
        return real(path, settings, providers=[CPU])

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)
    monkeypatch.setattr(ort, "InferenceSession", without_driver)
    with pytest.raises(BadSetting, match="could not start CUDAExecutionProvider"):
        onnxruntime.load(model, BackendOptions(device="cuda"))
    assert asked == [[CUDA, CPU]]


@pytest.mark.parametrize(
    ("options", "level"),
    [
        (BackendOptions(), ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
        (BackendOptions(optimized=True), ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
        (BackendOptions(optimized=True, device="cuda"), ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
    ],
)
def test_only_what_was_optimized_for_this_processor_is_not_optimized_again(
    options: BackendOptions, level: ort.GraphOptimizationLevel
) -> None:
    assert onnxruntime.session_options(options).graph_optimization_level == level
