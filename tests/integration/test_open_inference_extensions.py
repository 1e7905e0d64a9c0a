"""Triton's extensions of the Open Inference Protocol over the socket, as its clients and perf_analyzer use them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.sample_models import MLP_FEATURES
from tests.integration.server_process import ServerProcess

X = np.arange(2 * MLP_FEATURES, dtype=np.float32).reshape(2, MLP_FEATURES)
INFER = "/v2/models/mlp/infer"


def question(rows: int = 2, **extra: Any) -> dict[str, Any]:
    data = np.resize(X, (rows, MLP_FEATURES)).reshape(-1).tolist()
    return {"inputs": [{"name": "x", "shape": [rows, MLP_FEATURES], "datatype": "FP32", "data": data}], **extra}


def stats_of(server: ServerProcess, path: str = "/v2/models/mlp/stats") -> dict[str, Any]:
    (one,) = server.get(path).json()["model_stats"]
    assert isinstance(one, dict)
    return one


@pytest.mark.parametrize("path", ["/v2/models/mlp/config", "/v2/models/mlp/versions/1/config"])
def test_the_configuration_tells_batch_size_types_and_dims(mlp_server: ServerProcess, path: str) -> None:
    config = mlp_server.get(path).json()
    assert (config["name"], config["platform"], config["backend"]) == ("mlp", "onnxruntime_onnx", "onnxruntime")
    assert config["max_batch_size"] == mlp_server.samples()["slipway_max_batch_size"]
    assert (config["input"][0]["data_type"], config["input"][0]["dims"]) == ("TYPE_FP32", [8])
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [3]}]


def test_statistics_count_requests_rows_and_failures(mlp_server: ServerProcess) -> None:
    before = stats_of(mlp_server)
    for _ in range(3):
        assert mlp_server.post(INFER, question(rows=5)).status == 200
    assert mlp_server.post(INFER, {"inputs": []}).status == 400
    after = stats_of(mlp_server)
    assert after["inference_count"] - before["inference_count"] == 15
    assert 1 <= after["execution_count"] - before["execution_count"] <= 3
    grown = {
        part: {key: figure[key] - before["inference_stats"][part][key] for key in figure}
        for part, figure in after["inference_stats"].items()
    }
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert {part: grown[part]["count"] for part in ("success", *parts)} == dict.fromkeys(("success", *parts), 3)
    assert sum(grown[part]["ns"] for part in parts) == grown["success"]["ns"]
    assert grown["fail"]["count"] == 1
    assert grown["fail"]["ns"] > 0
    assert abs(after["last_inference"] / 1e3 - time.time()) < 60
    assert sum(row["compute_infer"]["count"] for row in after["batch_stats"]) == after["execution_count"]


def test_statistics_of_a_version_and_of_all_models(mlp_server: ServerProcess) -> None:
    assert stats_of(mlp_server, "/v2/models/mlp/versions/1/stats")["version"] == "1"
    assert [one["name"] for one in mlp_server.get("/v2/models/stats").json()["model_stats"]] == ["mlp"]
    assert mlp_server.get("/v2/models/stats?cold=1").json()["model_stats"][0]["name"] == "mlp"


@pytest.mark.parametrize("tail", ["config", "stats", "versions/1/config", "versions/1/stats"])
def test_of_an_unknown_model_there_is_neither(mlp_server: ServerProcess, tail: str) -> None:
    for path in (f"/v2/models/no_such_model/{tail}", f"/v2/models/mlp/versions/987/{tail.split('/')[-1]}"):
        answer = mlp_server.get(path)
        assert (answer.status, answer.code) == (404, "unknown_model")


def test_a_model_of_the_name_stats_does_not_hide_the_statistics(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", name="stats")).ready()
    assert [one["name"] for one in server.get("/v2/models/stats").json()["model_stats"]] == ["stats"]
    assert server.get("/v2/models/stats/versions/1").json()["name"] == "stats"
    assert server.post("/v2/repository/models/stats/unload", {}).status == 200
    assert server.get("/v2/models/stats").json() == {"model_stats": []}


def test_the_server_names_the_extensions_that_it_has(mlp_server: ServerProcess) -> None:
    assert {"binary_tensor_data", "model_configuration", "parameters", "schedule_policy", "statistics"} <= set(
        mlp_server.get("/v2").json()["extensions"]
    )


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/health/ready", "/ping", "/v2/models/mlp/ready"])
def test_head_is_get_without_a_body_and_a_slash_changes_nothing(mlp_server: ServerProcess, path: str) -> None:
    plain = mlp_server.get(path)
    for method, target in (("HEAD", path), ("HEAD", path + "/"), ("GET", path + "/")):
        answer = mlp_server.request(method, target)
        assert (answer.status, answer.headers["content-length"]) == (200, str(len(plain.body)))
        assert answer.body == (plain.body if method == "GET" else b"")


def test_statistics_of_cached_responses(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", name="m"), "--cache-mb", "1").ready()
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    for _ in range(3):
        assert server.post("/v2/models/m/infer", {"inputs": [tensor]}).status == 200
    one = stats_of(server, "/v2/models/m/stats")
    stats = one["inference_stats"]
    assert (one["inference_count"], one["execution_count"], stats["success"]["count"]) == (1, 1, 3)
    assert (stats["cache_hit"]["count"], stats["cache_miss"]["count"], stats["compute_infer"]["count"]) == (2, 1, 1)
    assert server.get("/v2/models/m/config").json()["response_cache"] == {"enable": True}
    assert json.dumps(one)
