"""Devices of the ONNX Runtime backend: what is asked for is given, or refused; there is no quiet way to the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx.parser
import onnxruntime as ort
import pytest

from server.backends import BackendOptions, onnxruntime, onnxruntime_cuda
from server.backends.onnx_file import shape_nodes
from server.errors import BadSetting, BrokenArtifact
from server.target import DeviceTarget
from tests.integration import sample_models

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.parametrize(("device", "missing"), [("cuda", CUDA), ("tensorrt", TENSORRT)])
def test_a_runtime_that_was_built_without_the_device_is_refused(device: str, missing: str) -> None:
    with pytest.raises(BadSetting, match=f"needs {missing}, which the installed ONNX Runtime does not have"):
        onnxruntime_cuda.require_provider(device, [CPU])
    onnxruntime_cuda.require_provider(device, [missing, CPU])


def test_a_session_that_fell_back_to_the_processor_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sample_models.mlp(tmp_path / "mlp.onnx")
    real = ort.InferenceSession
    asked: list[list[str]] = []

    def without_driver(path: str, settings: Any, providers: list[tuple[str, Any]]) -> Any:
        """As ONNX Runtime does where the provider is built in and the driver is missing: it goes on, on the CPU."""
        asked.append([name for name, _ in providers])
        return real(path, settings, providers=[CPU])

    monkeypatch.setattr(ort, "InferenceSession", without_driver)
    with pytest.raises(BadSetting, match="could not start CUDAExecutionProvider"):
        onnxruntime_cuda.on_device(model, BackendOptions(target=DeviceTarget("cuda")), 0, 1, 1 << 20)
    assert asked == [[CUDA, CPU]]


def test_a_graph_for_processors_is_refused_before_the_runtime_is_asked(tmp_path: Path) -> None:
    options = BackendOptions(optimized=True, target=DeviceTarget("cuda"))
    with pytest.raises(BrokenArtifact, match=r"optimized for a processor.*--target cuda"):
        onnxruntime_cuda.load(tmp_path / "none.onnx", options)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"tf32": 1}, "'tf32'"),
        ({"cudnn_conv_algo_search": "BEST"}, "'cudnn_conv_algo_search'"),
        ({"graph": True}, "'graph'"),
        ({"fp16": True}, "'fp16' is for the device tensorrt"),
    ],
)
def test_options_of_the_device_are_checked(options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(BrokenArtifact, match=wrong):
        onnxruntime_cuda.tuning(BackendOptions(target=DeviceTarget("cuda", options=options)))


def test_tf32_is_off_unless_the_manifest_has_it() -> None:
    assert onnxruntime_cuda.tuning(BackendOptions()) == onnxruntime_cuda.Tuning(
        tf32=False, search="HEURISTIC", graphs=True, fp16=False
    )


ON_HOST = """
<ir_version: 9, opset_import: ["": 18]>
g (float[N, 4] x) => (float[N, 4] y)
{
    [sizes] s = Shape(x)
    [flat] f = Constant<value_ints = [-1]>()
    [join] j = Concat<axis = 0>(s, f)
    [part] p = Slice(s, s, s)
    [twice] t = Add(x, x)
    [shaped] y = Reshape(t, s)
}
"""


def test_what_computes_with_values_on_the_processor_is_named_and_shapes_are_not(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(ON_HOST), path)
    kinds = shape_nodes(path)
    assert kinds == {"sizes": True, "flat": True, "join": True, "part": True, "twice": False, "shaped": False}
    on_host = [
        ("join", "Concat"),
        ("part", "Slice"),
        ("twice", "Add"),
        ("made_by_runtime", "FusedConv"),
        ("", "Gather"),
    ]
    assert onnxruntime_cuda.computing(on_host, kinds) == ["Add (twice)", "FusedConv (made_by_runtime)"]


@pytest.mark.parametrize(
    ("options", "level"),
    [
        (BackendOptions(), ort.GraphOptimizationLevel.ORT_ENABLE_ALL),
        (BackendOptions(optimized=True), ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
    ],
)
def test_only_what_was_optimized_for_this_processor_is_not_optimized_again(
    options: BackendOptions, level: ort.GraphOptimizationLevel
) -> None:
    assert onnxruntime.session_options(options).graph_optimization_level == level
