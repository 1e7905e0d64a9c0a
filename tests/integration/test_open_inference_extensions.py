"""Triton's extensions of the Open Inference Protocol over the socket, as its clients and perf_analyzer use them."""

from __future__ import annotations

import base64
import gzip
import json
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.sample_models import MLP_FEATURES, mlp_answer
from tests.integration.server_process import Answer, ServerProcess

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LENGTH = "Inference-Header-Content-Length"
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


@pytest.mark.parametrize(
    "parameters",
    [
        {"timeout": 0},
        {"timeout": 0.0},
        {"timeout": 5_000_000},
        {"timeout": 2**64 - 1},
        *({"priority": priority} for priority in (0, 1, 8, 100, 2**64 - 1, "7")),
        {"sequence_id": 7, "sequence_start": True, "sequence_end": True},
        {"note": "x", "n": 1, "b": True},
    ],
)
@pytest.mark.parametrize("path", [INFER, INFER + "?cold=1"])
def test_parameters_that_triton_takes_are_taken(mlp_server: ServerProcess, path: str, parameters: Any) -> None:
    assert mlp_server.post(path, question(parameters=parameters)).status == 200


@pytest.mark.parametrize(
    "parameters",
    [*({"timeout": value} for value in (-1, "soon", True, None, [1], 1e400)), {"priority": -1}, {"priority": 1.5}],
)
def test_parameters_that_are_none_are_refused(mlp_server: ServerProcess, parameters: Any) -> None:
    answer = mlp_server.post(INFER, question(parameters=parameters))
    assert (answer.status, answer.code) == (400, "malformed_input")


def asking(**parameters: Any) -> dict[str, Any]:
    return question(outputs=[{"name": "y", "parameters": parameters}])


@pytest.mark.parametrize("path", [INFER, "/invocations"])
def test_classification_gives_the_best_classes_of_each_row(mlp_server: ServerProcess, path: str) -> None:
    (row,) = mlp_server.post(path, asking(classification=2)).json()["outputs"]
    order = np.argsort(-mlp_answer(X), axis=1, kind="stable")[:, :2]
    expected = [f"{mlp_answer(X)[at, index]}:{index}" for at, line in enumerate(order) for index in line]
    assert row == {"name": "y", "datatype": "BYTES", "shape": [2, 2], "data": expected}


def test_a_tensor_in_shared_memory_is_refused(mlp_server: ServerProcess) -> None:
    answer = mlp_server.post(INFER, asking(shared_memory_region="r", shared_memory_byte_size=24))
    assert (answer.status, "shared memory" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/cudasharedmemory/region/r/status"),
        ("POST", "/v2/systemsharedmemory/region/r/register"),
        ("POST", "/v2/cudasharedmemory/unregister"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/models/mlp/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/models/mlp/generate"),
        ("POST", "/v2/models/mlp/versions/1/generate_stream"),
    ],
)
def test_an_absent_extension_is_refused_with_a_sentence(mlp_server: ServerProcess, method: str, path: str) -> None:
    answer = mlp_server.request(method, path)
    assert (answer.status, answer.code) == (501, "not_supported")
    assert " " in answer.json()["error"]
    named = " ".join(mlp_server.get("/v2").json()["extensions"])
    assert not any(word in named for word in ("shared_memory", "trace", "logging", "generate"))


ROOTS = [[-1.0, 4.0]]
TENSOR = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": ROOTS}


READERS: dict[str, Any] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "zstd": zstd.decompress}
WRITERS: dict[str, Any] = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("encoding", list(READERS))
@pytest.mark.parametrize("path", [INFER, INFER + "?cold=1"])
@pytest.mark.parametrize("binary", [True, False])
def test_bodies_are_compressed_both_ways(mlp_server: ServerProcess, path: str, encoding: str, binary: bool) -> None:
    body = json.dumps(question(rows=500, parameters={"binary_data_output": binary})).encode()
    plain = mlp_server.request("POST", path, body)
    small = mlp_server.request(
        "POST", path, WRITERS[encoding](body), {"Content-Encoding": encoding, "Accept-Encoding": encoding}
    )
    assert (small.status, small.headers["content-encoding"]) == (200, encoding)
    assert small.headers["content-length"] == str(len(small.body))
    assert READERS[encoding](small.body) == plain.body
    assert small.headers.get(LENGTH.lower()) == plain.headers.get(LENGTH.lower()), "the length is of the plain JSON"


def test_small_answers_and_those_through_the_platform_are_not_compressed(mlp_server: ServerProcess) -> None:
    accept = {"Accept-Encoding": "gzip"}
    assert "content-encoding" not in mlp_server.post(INFER, question(), accept).headers
    assert "content-encoding" not in mlp_server.post("/invocations", question(rows=500), accept).headers


@pytest.mark.parametrize("encoding", list(WRITERS))
@pytest.mark.parametrize("path", [INFER, INFER + "?cold=1", "/invocations"])
def test_a_body_that_expands_too_far_is_413(mlp_server: ServerProcess, path: str, encoding: str) -> None:
    answer = mlp_server.request("POST", path, WRITERS[encoding](b" " * 5_000_000), {"Content-Encoding": encoding})
    assert (answer.status, answer.code) == (413, "body_too_large")


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


def index_of(server: ServerProcess, **body: Any) -> dict[tuple[str, str], tuple[str, str]]:
    """State and reason by name and version."""
    rows = server.post("/v2/repository/index", body).json()
    return {(row["name"], row["version"]): (row["state"], row["reason"]) for row in rows}


def test_the_index_lists_what_is_on_disk_and_not_loaded(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "models"
    for version in "12":
        sample_models.mlp(root / "m" / version / "model.onnx")
    server = serve(root).ready()
    sample_models.mlp(root / "new" / "1" / "model.onnx")
    on_disk = ("UNAVAILABLE", "it is in the model folder and not loaded")
    assert index_of(server) == {("m", "1"): on_disk, ("m", "2"): ("READY", ""), ("new", "1"): on_disk}
    assert set(index_of(server, ready=True)) == {("m", "2")}
    assert server.post("/v2/repository/models/new/load", {}).status == 200
    assert server.post("/v2/repository/models/m/unload", {}).status == 200
    index = index_of(server)
    assert index["new", "1"] == ("READY", "")
    assert index["m", "2"][0] == "UNAVAILABLE"
    assert index["m", "1"] == on_disk


def load(server: ServerProcess, name: str, config: Any) -> Answer:
    text = config if isinstance(config, str) else json.dumps(config)
    return server.post(f"/v2/repository/models/{name}/load", {"parameters": {"config": text}})


def test_a_load_changes_batch_size_instances_and_delay_until_the_next_load(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "models"
    sample_models.fake(root / "m" / "1", wait_us=2_000)  # not so fast that it would run on the event loop
    server = serve(root).ready()
    usual = server.get("/v2/models/m/config").json()
    assert usual["max_batch_size"] == 8
    changes = {
        "max_batch_size": 4,
        "instance_group": [{"count": 2, "kind": "KIND_AUTO"}, {"count": "1"}],
        "dynamic_batching": {"max_queue_delay_microseconds": "700"},
    }
    assert load(server, "m", {**usual, **changes}).status == 200
    config = server.get("/v2/models/m/config").json()
    assert (config["max_batch_size"], config["instance_group"][0]["count"]) == (4, 3)
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 700
    assert load(server, "m", {"max_batch_size": 0}).status == 200
    alone = server.get("/v2/models/m/config").json()
    assert (alone["max_batch_size"], alone["input"][0]["dims"]) == (0, [-1, 4])
    assert server.post("/v2/repository/models/m/load", {}).status == 200
    assert server.get("/v2/models/m/config").json() == usual


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"config": "{"}, "JSON"),
        ({"config": {"max_batch_size": 4}}, "text"),
        ({"config": "[1]"}, "object"),
        ({"config": '{"max_batch_size": -1}'}, "max_batch_size"),
        ({"config": '{"max_batch_size": 1e3}'}, "max_batch_size"),
        ({"config": '{"max_batch_size": 99999999}'}, "max_batch_size"),
        ({"config": '{"instance_group": []}'}, "instance_group"),
        ({"config": '{"instance_group": [{"count": 0}]}'}, "count"),
        ({"config": '{"instance_group": [{"count": 65}]}'}, "count"),
        ({"config": '{"instance_group": [{"count": 40}, {"count": 40}]}'}, "count"),
        ({"config": '{"instance_group": [{"kind": "KIND_GPU"}]}'}, "instance_group.kind"),
        ({"config": '{"dynamic_batching": []}'}, "dynamic_batching"),
        ({"config": '{"dynamic_batching": {"preserve_ordering": true}}'}, "dynamic_batching.preserve_ordering"),
        ({"config": '{"backend": "python"}'}, "backend"),
        ({"config": '{"name": "other"}'}, "name"),
        ({"config": '{"input": [{"name": "x"}]}'}, "input"),
        ({"file:1/model.onnx": "AAAA"}, "need the parameter config"),
        ({"config": "{}", "file:../model.onnx": "AAAA"}, "no path inside"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_a_load_cannot_change_is_named(mlp_server: ServerProcess, parameters: Any, word: str) -> None:
    answer = mlp_server.post("/v2/repository/models/mlp/load", {"parameters": parameters})
    assert (answer.status, answer.code) == (400, "malformed_input")
    assert word in answer.json()["error"]
    assert mlp_server.get("/v2/models/mlp/ready").status == 200


def test_files_of_a_model_can_be_sent_with_its_load(serve: Serve, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    sample_models.fake(tmp_path / "models" / "m" / "1")
    server = serve(tmp_path / "models", environ={"TMPDIR": str(temporary)}).ready()
    file = base64.b64encode(sample_models.mlp(tmp_path / "mlp.onnx").read_bytes()).decode()
    config = {"backend": "onnxruntime", "max_batch_size": 4, "version_policy": {"specific": {"versions": [3]}}}
    parameters = {"config": json.dumps(config), "file:1/model.onnx": file, "file:3/model.onnx": file}
    for name in ("m", "new"):
        assert server.post(f"/v2/repository/models/{name}/load", {"parameters": parameters}).body == b"{}"
        answer = server.post(f"/v2/models/{name}/infer", question()).json()
        assert answer["model_version"] == "3"
        np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (2, 3)), mlp_answer(X), rtol=1e-5)
        assert server.get(f"/v2/models/{name}/config").json()["max_batch_size"] == 4
        assert server.get(f"/v2/models/{name}").json()["versions"] == ["3"]
    assert len([*temporary.glob("slipway-sent-*")]) == 2
    broken = {**parameters, "file:3/model.onnx": "AAAA"}
    assert server.post("/v2/repository/models/new/load", {"parameters": broken}).code == "broken_artifact"
    script = {"config": "{}", "file:1/code/inference.py": "AAAA", "file:1/model.onnx": file}
    assert "scripts" in server.post("/v2/repository/models/new/load", {"parameters": script}).json()["error"]
    assert server.post("/v2/models/new/infer", question()).status == 200
    assert server.post("/v2/repository/models/m/load", {}).status == 200
    assert server.get("/v2/models/m").json()["inputs"][0]["shape"] == [-1, 4]
    assert server.post("/v2/repository/models/new/unload", {}).status == 200
    assert server.post("/v2/repository/models/new/load", {}).code == "unknown_model"
    assert not [*temporary.glob("slipway-sent-*")]


def test_an_unknown_model_is_not_loaded_with_a_config_either(mlp_server: ServerProcess) -> None:
    assert load(mlp_server, "no_such_model", {"max_batch_size": 4}).code == "unknown_model"
