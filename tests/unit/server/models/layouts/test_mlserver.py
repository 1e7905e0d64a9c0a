"""model-settings.json of MLServer: what is honoured, and what is refused with the command that helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.errors import BrokenArtifact
from server.models.repository import open_found, scan
from server.settings.options import Settings
from server.tensors import BY_NAME
from tests import onnx_graphs


def folder(root: Path, settings: Any, *files: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name in files:
        onnx_graphs.save(onnx_graphs.perceptron, root / name)
    (root / "model-settings.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return root


def test_a_folder_with_an_onnx_file(tmp_path: Path) -> None:
    settings = {
        "name": "mlp",
        "implementation": "mlserver_onnx.OnnxModel",
        "parameters": {"uri": "./net.onnx", "version": "v0.1.0", "content_type": "np", "extra": {"a": 1}},
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4], "parameters": {"content_type": "pd"}}],
        "max_batch_size": 12,
        "max_batch_time": 0.5,
        "parallel_workers": 2,
    }
    (found,) = scan(folder(tmp_path / "m", settings, "net.onnx", "other.onnx"), Settings())
    assert (found.name, found.version) == ("mlp", "v0.1.0")
    artifact = open_found(found, Settings())
    said = artifact.declaration
    assert artifact.model_path.name == "net.onnx"
    assert (said.batch_sizes, said.max_batch_size, said.max_queue_delay_us) == ((12,), None, 500_000)
    assert [(one.name, one.dtype, one.shape) for one in said.inputs] == [("x", BY_NAME["FP32"], (-1, 4))]
    assert said.ignored == ("parallel_workers", "parameters.extra", "inputs[0].parameters.content_type")


def test_a_folder_of_such_folders_is_a_folder_of_models(tmp_path: Path) -> None:
    folder(tmp_path / "one", {"name": "a"}, "model.onnx")
    folder(tmp_path / "two", {"name": "b", "parameters": {"version": "2"}}, "model.onnx")
    folder(tmp_path / "three" / "1", {}, "model.onnx")
    assert [(one.name, one.version) for one in scan(tmp_path, Settings())] == [("a", "1"), ("b", "2"), ("1", "1")]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"implementation": "mlserver_sklearn.SKLearnModel"}, "python -m optimize MODEL"),
        ({"implementation": "mlserver_xgboost.XGBoostModel", "parameters": {"uri": "model.bst"}}, "cannot be run here"),
        ({"implementation": "runtime.OnnxModel"}, "code of its own"),
        ({"parameters": {"uri": "gone.onnx"}}, "there is no 'gone.onnx'"),
        ({"parameters": {"uri": "/etc/passwd"}}, "inside the folder"),
        ({"parameters": {"uri": "../m/model.onnx"}}, "inside the folder"),
        ({"parameters": {"uri": "s3://bucket/model.onnx"}}, "inside the folder"),
        ({"parameters": {"uri": "runtime.py"}}, "is not an .onnx file"),
        ({"parameters": []}, "parameters must be an object"),
        ({"name": 7}, "name must be text"),
        ({"max_batch_size": "4"}, "max_batch_size must be a whole number"),
        ({"max_batch_size": True}, "max_batch_size must be a whole number"),
        ({"max_batch_time": -1}, "max_batch_time from 0"),
        ({"inputs": [{"name": "x"}]}, "a tensor needs a name"),
        ({"inputs": [7]}, "a tensor needs a name"),
        ("[]", "must hold one JSON object"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_wrong_or_cannot_be_run_is_refused(settings: Any, reason: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "m", settings, "model.onnx")
    (root / "runtime.py").write_text("class OnnxModel: ...")
    with pytest.raises(BrokenArtifact, match=reason) as raised:
        open_found(scan(root, Settings())[0], Settings())
    assert str(raised.value).startswith("model-settings.json")
    assert "\n" not in str(raised.value)


def test_the_command_names_the_file_that_lies_there(tmp_path: Path) -> None:
    root = folder(tmp_path / "m", {"implementation": "mlserver_sklearn.SKLearnModel"})
    (root / "model.joblib").write_bytes(b"")
    with pytest.raises(BrokenArtifact, match=r"python -m optimize model\.joblib --allow-pickle"):
        scan(root, Settings())
