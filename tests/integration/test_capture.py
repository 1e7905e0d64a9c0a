"""Data capture by a real server: every route that infers, the end of the process, and a capture process that dies."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.grpc_client import client_of, infer_request
from tests.integration.server_process import JSON, ServerProcess, eventually
from tests.integration.test_embeddings_routes import pipeline

ROW = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
TENSOR = {"name": "x", "shape": [1, 8], "datatype": "FP32", "data": ROW}


def records(folder: Path) -> list[Any]:
    return [
        json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines() if line
    ]


def written(server: ServerProcess, count: int) -> None:
    eventually(lambda: server.samples()["slipway_capture_records_total"] >= count, f"{count} records are written")


def capture_process(server: ServerProcess) -> int:
    threads = Path(f"/proc/{server.pid}/task").iterdir()
    (child,) = [one for thread in threads for one in (thread / "children").read_text(encoding="ascii").split()]
    return int(child)


def test_every_way_to_infer_is_captured_and_nothing_else(serve: Serve, tmp_path: Path) -> None:
    model, to = sample_models.mlp(tmp_path / "mlp.onnx"), tmp_path / "captured"
    server = serve(model, "--capture-to", str(to)).ready()
    binary = json.dumps({"inputs": [{**TENSOR, "data": None, "parameters": {"binary_data_size": 32}}]}).replace(
        '"data": null, ', ""
    )
    sent = {
        "json": server.post("/invocations", {"instances": [ROW]}, {"X-Amzn-SageMaker-Inference-Id": "mine"}),
        "csv": server.post("/invocations", b"0,1,2,3,4,5,6,7", {"Content-Type": "text/csv"}),
        "gzip": server.post(
            "/invocations",
            gzip.compress(json.dumps({"instances": [ROW]}).encode()),
            {**JSON, "Content-Encoding": "gzip"},
        ),
        "cold": server.post("/invocations?cold=1", {"instances": [ROW]}),
        "v2": server.post("/v2/models/mlp/infer", {"inputs": [TENSOR]}),
        "v1": server.post("/v1/models/mlp:predict", {"instances": [ROW]}),
        "v2 binary": server.post(
            "/v2/models/mlp/infer",
            binary.encode() + np.array(ROW, np.float32).tobytes(),
            {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(binary))},
        ),
    }
    assert {name: answer.status for name, answer in sent.items()} == dict.fromkeys(sent, 200)
    assert server.post("/invocations", b"nonsense", JSON).status == 400
    server.get("/v2/models/mlp")
    written(server, len(sent))
    assert server.stop() == 0
    found = records(to)
    assert len(found) == len(sent)
    assert all(path.relative_to(to).parts[:2] == ("mlp", "AllTraffic") for path in to.rglob("*.jsonl"))
    pairs = [(one["captureData"]["endpointInput"], one["captureData"]["endpointOutput"]) for one in found]
    for (asked, answered), answer in zip(pairs, sent.values(), strict=True):
        data = answered["data"]
        assert (base64.b64decode(data) if answered["encoding"] == "BASE64" else data.encode()) == answer.body
        assert asked["mode"] == "INPUT"
    assert [asked["encoding"] for asked, _ in pairs] == ["JSON", "CSV", "JSON", "JSON", "JSON", "JSON", "BASE64"]
    assert json.loads(pairs[2][0]["data"]) == {"instances": [ROW]}
    events = [one["eventMetadata"] for one in found]
    assert [event.get("inferenceId") for event in events] == ["mine", *[None] * 6]
    assert {event.get("modelVersion", "1") for event in events} == {"1"}


def test_calls_over_grpc_are_captured_once_each(serve: Serve, tmp_path: Path) -> None:
    model, to = sample_models.mlp(tmp_path / "mlp.onnx"), tmp_path / "captured"
    server = serve(model, "--grpc-port", "0", "--capture-to", str(to)).ready()
    asked = infer_request(np.array([ROW], np.float32))
    with client_of(server) as client:
        answer = client.call("ModelInfer", asked, metadata=[("x-amzn-sagemaker-inference-id", "mine")])
        assert client.failure("ModelInfer", infer_request(np.zeros((1, 5), np.float32)))
        assert len(list(client.stream([asked]))) == 1
    assert server.post("/v2/models/mlp/infer", {"inputs": [TENSOR]}).status == 200
    written(server, 3)
    assert server.stop() == 0
    found = records(to)
    assert len(found) == 3
    unary, stream = (one["captureData"] for one in found[:2])
    for call in (unary, stream):
        kinds = {(call[side]["observedContentType"], call[side]["encoding"]) for side in call}
        assert kinds == {("application/grpc", "BASE64")}
        assert base64.b64decode(call["endpointInput"]["data"]) == asked.SerializeToString()
    assert base64.b64decode(unary["endpointOutput"]["data"]) == answer.SerializeToString()
    assert found[0]["eventMetadata"]["inferenceId"] == "mine"
    assert [one["eventMetadata"]["modelVersion"] for one in found] == ["1"] * 3


def test_scripts_are_captured(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "m" / "code").mkdir(parents=True)
    (tmp_path / "m" / "code" / "inference.py").write_text(
        "def model_fn(folder):\n    return 2\n\n\n"
        "def transform_fn(model, body, content_type, accept):\n    return 'answered ' + body, 'text/csv'\n"
    )
    server = serve(tmp_path / "m", "--capture-to", str(tmp_path / "captured")).ready()
    assert server.post("/invocations", b"1,2", {"Content-Type": "text/csv"}).body == b"answered 1,2"
    assert captured_once(server, tmp_path / "captured") == ("1,2", "answered 1,2")


def test_streams_of_rows_are_captured_as_one_body(serve: Serve, tmp_path: Path) -> None:
    to = tmp_path / "captured"
    server = serve(sample_models.fake(tmp_path / "m"), "--capture-to", str(to), "--stream-rows", "1").ready()
    lines = "[1,2,3,4]\n[5,6,7,8]"
    media = "application/jsonlines"
    answer = server.post("/invocations", lines.encode(), {"Content-Type": media, "Accept": media})
    assert answer.headers["transfer-encoding"] == "chunked"
    assert captured_once(server, to) == (lines, answer.body.decode())


def test_embeddings_are_captured(serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")
    server = serve(pipeline(tmp_path / "words"), "--capture-to", str(tmp_path / "captured")).ready()
    asked = {"model": "words", "input": ["a cat sits"]}
    answer = server.post("/v1/embeddings", asked)
    sent, told = captured_once(server, tmp_path / "captured")
    assert (json.loads(sent), told) == (asked, answer.body.decode())


def captured_once(server: ServerProcess, folder: Path) -> tuple[str, str]:
    """The data of the only record, once it is written."""
    written(server, 1)
    assert server.stop() == 0
    (record,) = records(folder)
    sides = record["captureData"]
    return sides["endpointInput"]["data"], sides["endpointOutput"]["data"]


@pytest.mark.slow
def test_a_capture_process_that_dies_is_started_again_and_requests_are_answered(serve: Serve, tmp_path: Path) -> None:
    model, to = sample_models.mlp(tmp_path / "mlp.onnx"), tmp_path / "captured"
    server = serve(model, "--capture-to", str(to)).ready()
    ask = {"instances": [ROW]}
    assert server.post("/invocations", ask).status == 200
    written(server, 1)
    first = capture_process(server)
    os.kill(first, signal.SIGKILL)

    def restarted() -> bool:
        assert server.post("/invocations", ask).status == 200
        return server.samples()["slipway_capture_records_total"] > 1

    eventually(restarted, "the next process writes")
    assert capture_process(server) != first
    assert server.samples()["slipway_capture_dropped_total{reason=failed}"] >= 1
    assert server.stop() == 0


def test_a_server_that_is_killed_leaves_what_it_had_written(serve: Serve, tmp_path: Path) -> None:
    model, to = sample_models.mlp(tmp_path / "mlp.onnx"), tmp_path / "captured"
    server = serve(model, "--capture-to", str(to), "--capture-mode", "input").ready()
    for _ in range(5):
        assert server.post("/invocations", {"instances": [ROW]}).status == 200
    written(server, 5)
    child = capture_process(server)
    server.process.kill()
    server.exit_code()
    eventually(lambda: not Path(f"/proc/{child}").exists(), "the capture process ends with the server")
    assert len(records(to)) == 5


def test_without_capture_there_is_no_process_and_no_metric(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.mlp(tmp_path / "mlp.onnx")).ready()
    assert server.post("/invocations", {"instances": [ROW]}).status == 200
    assert not any(name.startswith("slipway_capture") for name in server.samples())


def test_a_place_that_cannot_be_written_to_ends_the_start_with_one_line(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = serve(sample_models.mlp(tmp_path / "mlp.onnx"), "--capture-to", str(tmp_path / "file"))
    assert server.exit_code() == 1
    assert "name a folder" in server.log().splitlines()[-1]


def test_every_process_of_a_server_records_its_requests(serve: Serve, tmp_path: Path) -> None:
    model, to = sample_models.mlp(tmp_path / "mlp.onnx"), tmp_path / "captured"
    server = serve(model, "--processes", "2", "--capture-to", str(to)).ready()
    for _ in range(20):
        assert server.post("/invocations", {"instances": [ROW]}).status == 200
    assert server.stop() == 0
    assert len(records(to)) == 20
