"""Folders and archives of other servers, served by a real process as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests import onnx_graphs
from tests.integration.conftest import Serve
from tests.integration.server_process import ServerProcess

ARCHIVE = Path(__file__).parents[1] / "unit" / "server" / "models" / "layouts" / "archiver-0.12.0.mar"
ROW = [1.0, 2.0, 3.0, 4.0]
CONFIG = """
name: "triton"
backend: "onnxruntime"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
version_policy { all { } }
optimization { graph { level: 1 } }
"""


def lay_out(root: Path) -> Path:
    for version in "12":
        onnx_graphs.save(onnx_graphs.perceptron, root / "triton" / version / "model.onnx")
    (root / "triton" / "config.pbtxt").write_text(CONFIG)
    onnx_graphs.save(onnx_graphs.perceptron, root / "mlserver" / "model.onnx")
    (root / "mlserver" / "model-settings.json").write_text(json.dumps({"name": "mls", "parameters": {"version": "v7"}}))
    shutil.copy(ARCHIVE, root / "any.mar")
    return root


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_folder_of_three_layouts(serve: Serve, workers: str, tmp_path: Path) -> None:
    flags = ("--admin", "--script-workers", workers, "--default-model", "mlp")
    server = serve(lay_out(tmp_path / "models"), *flags, environ={"TMPDIR": str(tmp_path)}).ready()
    rows = {(row["name"], row["version"]) for row in server.post("/v2/repository/index", {}).json()}
    assert rows == {("triton", "1"), ("triton", "2"), ("mls", "v7"), ("mlp", "1.2")}
    (plain,) = infer(server, "mls", [1, 4])
    for path in ("triton", "triton/versions/1"):
        assert infer(server, path, [1, 2, 2]) == [pytest.approx(plain)]
    assert server.get("/v2/models/triton").json()["inputs"][0]["shape"] == [-1, 2, 2]
    answer = server.post("/invocations", ROW)
    assert answer.status == 200, answer.body
    assert answer.json() == pytest.approx([2 * value for value in plain], rel=1e-5)
    assert server.post("/invocations", b"{", {"Content-Type": "application/json"}).status == 400
    assert "fields are not honoured model=triton file=config.pbtxt fields=optimization" in server.log()
    assert [*tmp_path.glob("slipway-archive-*")]
    assert server.stop() == 0
    assert not [*tmp_path.glob("slipway-archive-*")]


def infer(server: ServerProcess, model: str, shape: list[int]) -> list[list[float]]:
    inputs = [{"name": "x", "shape": shape, "datatype": "FP32", "data": ROW}]
    answer = server.post(f"/v2/models/{model}/infer", {"inputs": inputs})
    assert answer.status == 200, answer.body
    return [one["data"] for one in answer.json()["outputs"]]


def test_a_model_that_cannot_be_honoured_ends_the_start_with_one_sentence(serve: Serve, tmp_path: Path) -> None:
    lay_out(tmp_path / "models")
    (tmp_path / "models" / "triton" / "config.pbtxt").write_text("backend: 'python'")
    server = serve(tmp_path / "models")
    assert server.exit_code() == 1
    assert "cannot serve: config.pbtxt: the backend 'python' cannot be run here" in server.log()


def test_clients_of_torchserve_send_files_to_predictions(serve: Serve, tmp_path: Path) -> None:
    server = serve(lay_out(tmp_path / "models")).ready()
    (plain,) = infer(server, "mls", [1, 4])
    for path in ("/predictions/mlp", "/predictions/mlp/1.2"):
        for method in ("PUT", "POST"):
            answer = server.request(method, path, json.dumps(ROW).encode(), {"Content-Type": "application/json"})
            assert answer.json() == pytest.approx([2 * value for value in plain], rel=1e-5)
    untyped = server.request("PUT", "/predictions/mls/v7", json.dumps({"instances": [ROW]}).encode())
    assert untyped.json()["predictions"] == [pytest.approx(plain)]
    for path in ("/predictions/gone", "/predictions/mlp/9"):
        assert server.request("PUT", path, b"x").code == "unknown_model"
    for method, path in (("GET", "/models"), ("POST", "/models?url=x.mar"), ("POST", "/explanations/mlp")):
        refused = server.request(method, path)
        assert (refused.status, refused.code) == (501, "not_supported")
