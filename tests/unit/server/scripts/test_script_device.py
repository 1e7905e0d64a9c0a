"""The device of a script: its context names the GPU, and the model beside it runs there, in workers too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.artifact import USUAL_BATCH_SIZES, Artifact, Manifest, VariableAxis
from server.backends import BackendOptions
from server.backends.device_session import DeviceSession
from server.errors import DeviceLost, ModelFailed, NotReady
from server.models.load.scripts import gpus_of, placed
from server.scripts import onnx_model
from server.scripts.call import Call
from server.scripts.channel import encode_calls
from server.scripts.loaded_script import LoadedScript, ScriptConfig
from server.scripts.onnx_model import OnnxModel
from server.scripts.script_functions import ModelInfo
from server.scripts.worker_main import WorkerLoop, _read, load_message
from server.settings.options import Settings
from server.system import gpu
from server.system.gpu import Gpu, Gpus
from server.target import ClosedShapes, DeviceTarget
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.fake_gpu import FakeDevice, FakeProgram

FP32 = BY_NAME["FP32"]
SPEC = ModelSpec((TensorSpec("x", FP32, (-1, 2)),), (TensorSpec("y", FP32, (-1, 2)),))
PADDED = VariableAxis({"x": (1, 0.0)}, {}, (8, 16))
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
    artifact = placed(Artifact(tmp_path, replace(MANIFEST, padding=PADDED)), Settings(device="cuda"))
    config = ScriptConfig(script(tmp_path), onnx_model=True, device="cuda", gpu_bytes=7)
    loaded = LoadedScript(artifact, config)
    ((backend, options),) = opened
    assert (backend, options.device, options.ordinals, options.memory_bytes) == ("onnxruntime_cuda", "cuda", (0,), 7)
    assert options.shapes == ClosedShapes(USUAL_BATCH_SIZES, (8, 16))
    assert (options.padding, options.spec) == (PADDED, SPEC)
    loaded.close()


def test_more_rows_than_a_gpu_takes_at_once_run_in_parts_and_dependent_ones_as_they_are() -> None:
    program = FakeProgram(SPEC, FakeDevice())
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    for independent, computed in ((True, 0), (False, 1)):
        session = DeviceSession([program], ClosedShapes((1, 2)), None)
        np.testing.assert_array_equal(OnnxModel(session, independent).predict(rows), 2 * rows)
        assert program.computed == computed
    session = DeviceSession([program], ClosedShapes((1, 4)), None)
    OnnxModel(session, None)  # shown: the fake doubles each row
    assert session.pads_rows


@pytest.mark.parametrize("lost", [False, True])
def test_a_failure_that_leaves_no_gpu_is_a_lost_device(lost: bool, tmp_path: Path) -> None:
    path = tmp_path / "inference.py"
    model, transform = "def model_fn(folder):\n    return 1", "def transform_fn(model, body, kind, accept):\n    1 / 0"
    path.write_text(f"{model}\n{transform}\n", encoding="utf-8")
    config = ScriptConfig(path, device="cuda")
    loaded = LoadedScript(Artifact(tmp_path, MANIFEST), config, lambda gpu: lost and gpu == 0)
    call = Call(b"1", "text/csv", "text/csv")
    if lost:
        with pytest.raises(DeviceLost):
            loaded.run([call])
    else:
        assert isinstance(loaded.run([call])[0].error, ModelFailed)
    loop = WorkerLoop(loaded)
    reply = loop.handle(encode_calls([call]))
    assert reply is not None
    assert (loop.lost, "raised" in reply[0]) == (lost, lost)
    assert not lost or reply[0]["raised"][0] == NotReady.code


def test_workers_share_the_gpus_and_their_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = Gpus(tuple(Gpu(at, "L4", f"GPU-{at}", 89, 10**10, 0, False, None, None, None) for at in range(2)))
    monkeypatch.setattr(gpu, "read", lambda: two)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    artifact = Artifact(tmp_path, replace(MANIFEST, device=DeviceTarget("cuda")))
    found = gpus_of(artifact, Settings(script_workers=3, gpus=0))
    assert [one.names for one in found] == [("GPU-0",), ("GPU-1",), ("GPU-0",)]
    assert min(one.memory_mb(0) for one in found if one.sharers > 1) == 4_500
    assert gpus_of(Artifact(tmp_path, MANIFEST), Settings(script_workers=3)) == ()


def test_an_engine_beside_a_script_keeps_its_shapes(opened: list[tuple[str, BackendOptions]], tmp_path: Path) -> None:
    target, shapes = DeviceTarget("tensorrt", 90, options={"graphs": False}), ClosedShapes((1, 4))
    engine = replace(MANIFEST, backend="tensorrt", device=target, shapes=shapes)
    model = OnnxModel.open(Artifact(tmp_path, engine), 1)
    assert (opened[0][1].target, opened[0][1].shapes, opened[0][1].spec) == (target, shapes, SPEC)
    np.testing.assert_array_equal(model.predict(np.ones((1, 2), np.float32)), [[2, 2]])


def test_a_worker_is_told_the_device_and_how_the_file_was_made(tmp_path: Path) -> None:
    made = replace(MANIFEST, device=DeviceTarget("cuda", least_sm=80), shapes=ClosedShapes((1, 4)), padding=PADDED)
    made = replace(made, provenance={"prepacked": True})
    config = ScriptConfig(tmp_path / "inference.py", device="cuda")
    artifact, again = _read(json.loads(json.dumps(load_message(Artifact(tmp_path, made), config))))
    assert again == config
    assert (artifact.manifest.device, artifact.manifest.shapes) == (made.device, made.shapes)
    assert (artifact.manifest.padding, artifact.manifest.spec) == (made.padding, made.spec)
    assert artifact.manifest.optimized
