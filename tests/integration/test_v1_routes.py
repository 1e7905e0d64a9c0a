"""The V1 protocol over the socket: list, status, metadata and predict, by name, version and label."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.sample_models import MLP_FEATURES
from tests.integration.server_process import JSON, ServerProcess

ROW = [float(value) for value in range(MLP_FEATURES)]
ROWS = {"instances": [ROW]}
PREDICT = "/v1/models/mlp:predict"


def test_the_models_are_listed_and_the_server_is_alive(mlp_server: ServerProcess) -> None:
    assert mlp_server.get("/v1/models").json() == {"models": ["mlp"]}
    assert mlp_server.get("/").json() == {"status": "alive"}


@pytest.mark.parametrize("way", ["", "/versions/1"])
def test_the_status_suits_clients_of_both_servers(mlp_server: ServerProcess, way: str) -> None:
    for path in (f"/v1/models/mlp{way}", f"/v1/models/mlp{way}?cold=1", f"/v1/models/mlp{way}/"):
        assert mlp_server.get(path).json() == {
            "name": "mlp",
            "ready": True,
            "model_version_status": [
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ],
        }


def test_the_metadata_is_one_signature(mlp_server: ServerProcess) -> None:
    document = mlp_server.get("/v1/models/mlp/metadata").json()
    assert document["model_spec"] == {"name": "mlp", "signature_name": "", "version": "1"}
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"] == {
        "name": "x",
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "8", "name": ""}], "unknown_rank": False},
    }


@pytest.mark.parametrize(
    "path", [PREDICT, PREDICT + "?cold=1", "/v1/models/mlp%3Apredict", "/v1/models/mlp/versions/1:predict"]
)
def test_predict_answers_as_invocations_do(mlp_server: ServerProcess, path: str) -> None:
    expected = mlp_server.post("/invocations", ROWS).json()
    assert mlp_server.post(path, ROWS).json() == expected
    assert mlp_server.post(path, {"inputs": [ROW]}).json() == {"outputs": expected["predictions"]}
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what curl -d says
    assert mlp_server.post(path, b'{"instances": [[0,1,2,3,4,5,6,7]]}', form).json() == expected
    attributes = {"specversion": "1.0", "id": "7", "source": "here", "type": "test"}
    event = mlp_server.post(path, {**attributes, "data": ROWS}, {"Content-Type": "application/cloudevents+json"})
    assert (event.headers["content-type"], event.json()["data"]) == ("application/cloudevents+json", expected)
    event = mlp_server.post(path, ROWS, {f"Ce-{name}": value for name, value in attributes.items()})
    assert (event.headers["ce-type"], event.json()) == ("io.kserve.inference.response", expected)


@pytest.mark.parametrize(
    ("method", "path", "status", "named"),
    [
        ("POST", "/v1/models/no_such_model:predict", 404, "no_such_model"),
        ("POST", "/v1/models/mlp/versions/9:predict", 404, "'9'"),
        ("POST", "/v1/models/mlp/labels/stable:predict", 404, "'stable'"),
        ("POST", "/v1/models/mlp/labels/1:predict", 404, "'1'"),
        ("GET", "/v1/models/no_such_model", 404, "no_such_model"),
        ("GET", "/v1/models/mlp/versions/9", 404, "'9'"),
        ("GET", "/v1/models/mlp/labels/1", 404, "'1'"),
        ("GET", "/v1/models/no_such_model/metadata", 404, "no_such_model"),
        ("GET", "/v1/models/mlp/versions/9/metadata", 404, "'9'"),
        ("POST", "/v1/models/mlp:classify", 400, ":predict"),
        ("POST", "/v1/models/mlp/versions/1:regress", 400, ":predict"),
        ("POST", "/v1/models/mlp:explain", 400, ":predict"),
        ("POST", "/v1/models/no_such_model:classify", 404, "no_such_model"),
    ],
)
def test_what_is_not_there_is_said_by_name(
    mlp_server: ServerProcess, method: str, path: str, status: int, named: str
) -> None:
    answer = mlp_server.request(method, path, b"{}" if method == "POST" else None, JSON)
    assert answer.status == status
    assert named in answer.json()["error"]


def test_wrong_bodies_deadlines_and_limits_are_those_of_every_route(mlp_server: ServerProcess) -> None:
    assert mlp_server.post(PREDICT, {"instances": [[1.0]]}).status == 400
    assert mlp_server.post(PREDICT, {"instances": [ROW] * 5_000}).status == 413
    late = mlp_server.post(PREDICT, ROWS, {"X-Request-Deadline-Ms": "0.000001"})
    assert (late.status, late.code) == (504, "deadline_exceeded")
    timed = mlp_server.post(PREDICT, ROWS, {"X-Slipway-Timing": "1"})
    assert "compute;dur=" in timed.headers["server-timing"]


def test_named_tensors_labels_and_a_version_that_is_not_loaded(serve: Serve, tmp_path: Path) -> None:
    sample_models.fake(tmp_path / "m" / "1", name="m", version="1")
    server = serve(tmp_path / "m" / "1", "--admin").ready()
    server.put("/admin/models/m/labels/stable", {"version": "1"})
    rows = {"instances": [[1.0] * 4]}
    assert server.post("/v1/models/m/labels/stable:predict", rows).json() == server.post("/invocations", rows).json()
    assert server.get("/v1/models/m/labels/stable").json()["model_version_status"][0]["version"] == "1"
    assert server.get("/v1/models/m/labels/stable/metadata").json()["model_spec"]["version"] == "1"
    assert server.request("DELETE", "/admin/models/m").status == 200
    gone = server.get("/v1/models/m")
    assert gone.status == 503
    assert gone.json()["ready"] is False
    assert gone.json()["model_version_status"][0]["state"] == "END"
    assert server.get("/v1/models").json() == {"models": []}
    assert server.post("/v1/models/m:predict", rows).status == 404


def test_a_fleet_does_not_tell_the_names_of_its_models(serve: Serve) -> None:
    server = serve(None, "--multi-model").ready()
    assert server.get("/v1/models").status == 404
