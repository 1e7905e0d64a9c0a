"""The Open Inference Protocol over the socket: health, metadata, infer in JSON and binary, names and versions."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from tests.integration.sample_models import MLP_FEATURES, mlp_answer
from tests.integration.server_process import ServerProcess

X = np.arange(2 * MLP_FEATURES, dtype=np.float32).reshape(2, MLP_FEATURES)
INFER = "/v2/models/mlp/infer"
LENGTH = "Inference-Header-Content-Length"


def question(**extra: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [2, MLP_FEATURES], "datatype": "FP32", "data": X.reshape(-1).tolist()}
    return {"inputs": [tensor], **extra}


def test_health_and_the_server_say_who_answers(mlp_server: ServerProcess) -> None:
    assert mlp_server.get("/v2/health/live").json() == {"live": True}
    assert mlp_server.get("/v2/health/ready").json()["ready"] is True
    server = mlp_server.get("/v2").json()
    assert server["name"] == "slipway"
    assert "binary_tensor_data" in server["extensions"]


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_metadata_and_readiness_of_a_model(mlp_server: ServerProcess, version: str) -> None:
    assert mlp_server.get(f"/v2/models/mlp{version}").json() == {
        "name": "mlp",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
    }
    assert mlp_server.get(f"/v2/models/mlp{version}/ready").json() == {"name": "mlp", "ready": True}


@pytest.mark.parametrize("path", [INFER, "/v2/models/mlp/versions/1/infer", INFER + "?cold=1", "/invocations"])
@pytest.mark.parametrize("identity", ["", "42", "Grüße"])
def test_infer_in_json_echoes_the_id(mlp_server: ServerProcess, path: str, identity: str) -> None:
    assert mlp_server.post(path, question(id=identity)).json() == {
        "model_name": "mlp",
        "model_version": "1",
        "id": identity,
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 3], "data": mlp_answer(X).reshape(-1).tolist()},
        ],
    }


def test_infer_needs_no_content_type_and_without_an_id_there_is_none(mlp_server: ServerProcess) -> None:
    answer = mlp_server.request("POST", INFER, json.dumps(question()).encode())
    assert answer.status == 200
    assert "id" not in answer.json()


@pytest.mark.parametrize("path", [INFER, INFER + "?cold=1"])
def test_infer_in_binary(mlp_server: ServerProcess, path: str) -> None:
    tensor = {"name": "x", "shape": [2, 8], "datatype": "FP32", "parameters": {"binary_data_size": X.nbytes}}
    head = json.dumps({"id": "b", "inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    answer = mlp_server.request("POST", path, head + X.tobytes(), {LENGTH: str(len(head))})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    length = int(answer.headers[LENGTH.lower()])
    document, blob = json.loads(answer.body[:length]), answer.body[length:]
    assert document["id"] == "b"
    (output,) = document["outputs"]
    assert output["parameters"] == {"binary_data_size": len(blob)}
    assert np.array_equal(np.frombuffer(blob, np.float32).reshape(output["shape"]), mlp_answer(X))


def test_infer_in_binary_where_headers_are_dropped_on_the_way(mlp_server: ServerProcess) -> None:
    tensor = {"name": "x", "shape": [2, 8], "datatype": "FP32", "parameters": {"binary_data_size": X.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    media_type = f"application/vnd.sagemaker-triton.binary+json;json-header-size={len(head)}"
    answer = mlp_server.request(
        "POST", "/invocations", head + X.tobytes(), {"Content-Type": media_type, "Accept": media_type}
    )
    kind, _, length = answer.headers["content-type"].partition(";json-header-size=")
    assert kind == media_type.partition(";")[0]
    assert np.array_equal(np.frombuffer(answer.body[int(length) :], np.float32), mlp_answer(X).reshape(-1))


@pytest.mark.parametrize("path", [INFER, INFER + "?cold=1"])
def test_a_raw_request_is_the_one_input(mlp_server: ServerProcess, path: str) -> None:
    answer = mlp_server.request("POST", path, X[:1].tobytes(), {LENGTH: "0"})
    length = int(answer.headers[LENGTH.lower()])
    assert np.array_equal(np.frombuffer(answer.body[length:], np.float32), mlp_answer(X[:1])[0])


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"inputs": [{"name": "x", "shape": [2, 8], "datatype": "FP64", "data": [0] * 16}]},
        {"inputs": [{"name": "x", "shape": [2, 8], "datatype": "FP32", "data": [0] * 15}]},
        {"inputs": [{"name": "x", "shape": [-2, 8], "datatype": "FP32", "data": []}]},
        {"inputs": [{"name": "x", "shape": [1 << 62, 8], "datatype": "FP32", "data": []}]},
        {"inputs": [{"name": "z", "shape": [2, 8], "datatype": "FP32", "data": [0] * 16}]},
        {"outputs": [{"name": "z"}]},
        {"id": 7},
        {"parameters": {"timeout": "soon"}},
        {"parameters": {"timeout": -5}},
    ],
)
def test_an_infer_request_that_does_not_fit_is_malformed(mlp_server: ServerProcess, change: dict[str, Any]) -> None:
    answer = mlp_server.post(INFER, {**question(), **change})
    assert (answer.status, answer.code) == (400, "malformed_input")


@pytest.mark.parametrize("length", ["-1", "1e3", "99999", "abc", ""])
def test_a_length_that_is_none_is_malformed(mlp_server: ServerProcess, length: str) -> None:
    answer = mlp_server.request("POST", INFER, json.dumps(question()).encode(), {LENGTH: length})
    assert (answer.status, answer.code) == (400, "malformed_input")


def test_a_name_arrives_percent_encoded(inline_server: ServerProcess) -> None:
    root = f"/v2/models/{quote('no/such thing?', safe='')}"
    assert inline_server.get(root).json()["name"] == "no/such thing?"
    assert inline_server.get(root + "/versions/1/ready").json()["ready"] is True
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    answer = inline_server.post(root + "/infer", {"inputs": [tensor]})
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6, 8]
