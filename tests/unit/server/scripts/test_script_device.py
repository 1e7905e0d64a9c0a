"""The device of a script: its context names the GPU, and the model beside it runs there, in workers too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.artifact import Artifact, Manifest
from server.backends import BackendOptions
from server.scripts import onnx_model
from server.scripts.loaded_script import LoadedScript, ScriptConfig
from server.scripts.onnx_model import OnnxModel
from server.scripts.script_functions import ModelInfo
from server.scripts.worker_main import _read, load_message
from server.target import ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

FP32 = BY_NAME["FP32"]
SPEC = ModelSpec((TensorSpec("x", FP32, (-1, 2)),), (TensorSpec("y", FP32, (-1, 2)),))
MANIFEST = Manifest("m", "1", "onnxruntime", "model.onnx", SPEC)


class Doubling:
    """A session that was opened on some device."""

    spec = SPEC

    def run(self, batch: list[Array]) -> list[Array]:
        return [2 * batch[0]]

    def close(self) -> None:
        pass


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, BackendOptions]]:
    """Backend and options of every session that is opened."""
    seen: list[tuple[str, BackendOptions]] = []

    def loader(name: str) -> object:
        def load(_path: Path, options: BackendOptions) -> Doubling:
            seen.append((name, options))
            return Doubling()

        return load

    monkeypatch.setattr(onnx_model, "loader", loader)
    return seen


def script(tmp_path: Path) -> Path:
    path = tmp_path / "inference.py"
    path.write_text("def input_fn(body, content_type):\n    return body\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("device", "gpu_id"), [("cpu", None), ("cuda", 0)])
def test_the_context_names_the_gpu(device: str, gpu_id: int | None, tmp_path: Path) -> None:
    config = ScriptConfig(tmp_path / "inference.py", device=device)
    info = ModelInfo("m", "/", "1", gpu_id=config.gpu_id)
    assert info.context().system_properties["gpu_id"] == gpu_id


def test_the_model_beside_a_script_runs_on_its_device(opened: list[tuple[str, BackendOptions]], tmp_path: Path) -> None:
    loaded = LoadedScript(Artifact(tmp_path, MANIFEST), ScriptConfig(script(tmp_path), onnx_model=True, device="cuda"))
    ((backend, options),) = opened
    assert (backend, options.device, options.ordinals) == ("onnxruntime_cuda", "cuda", (0,))
    assert options.shapes is None
    loaded.close()


def test_an_engine_beside_a_script_keeps_its_shapes(opened: list[tuple[str, BackendOptions]], tmp_path: Path) -> None:
    target, shapes = DeviceTarget("tensorrt", 90, options={"graphs": False}), ClosedShapes((1, 4))
    engine = replace(MANIFEST, backend="tensorrt", device=target, shapes=shapes)
    model = OnnxModel.open(Artifact(tmp_path, engine), 1, "tensorrt")
    assert (opened[0][1].target, opened[0][1].shapes, opened[0][1].spec) == (target, shapes, SPEC)
    np.testing.assert_array_equal(model.predict(np.ones((1, 2), np.float32)), [[2, 2]])


def test_a_worker_is_told_the_device_and_how_the_file_was_made(tmp_path: Path) -> None:
    made = replace(MANIFEST, device=DeviceTarget("cuda", least_sm=80), shapes=ClosedShapes((1, 4)))
    made = replace(made, provenance={"prepacked": True})
    config = ScriptConfig(tmp_path / "inference.py", device="cuda")
    artifact, again = _read(json.loads(json.dumps(load_message(Artifact(tmp_path, made), config))))
    assert again == config
    assert (artifact.manifest.device, artifact.manifest.shapes) == (made.device, made.shapes)
    assert artifact.manifest.optimized
