"""The hot path and FastAPI answer alike: the same requests both ways, and what comes back compared.

A query string is all it takes to leave the hot path: the hot table holds exact URLs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.codecs.numpy import Npy, Npz
from server.request import Payload
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.integration import sample_models
from tests.integration.server_process import (
    JSON,
    Answer,
    ServerProcess,
    eventually,
    instances,
    post_bytes,
    read_answers,
    read_to_end,
    server_process,
)

COLD = "?cold=1"
SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 4)),), (TensorSpec("x", BY_NAME["FP32"], (-1, 4)),))
ROW = [1.0, 2.0, 3.0, 4.0]
X = np.array([ROW], np.float32)
POISON, LIMIT = 666.0, 50_000
OCTETS = {"Content-Type": "application/octet-stream"}
TENSOR: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32"}
BINARY_HEAD = json.dumps(
    {
        "id": "7",
        "inputs": [{**TENSOR, "parameters": {"binary_data_size": 16}}],
        "parameters": {"binary_data_output": True},
    }
).encode()
OIP = "/v2/models/fake"
INFER = OIP + "/infer"
V1 = "/v1/models/fake"


def encoded(codec: Npy | Npz) -> bytes:
    return codec.encode([X], Payload((), 1), SPEC, "m", "1")[0]


def tensor(**change: Any) -> bytes:
    return json.dumps({"id": "a", "inputs": [{**TENSOR, "data": ROW, **change}]}).encode()


Case = tuple[str, str, bytes | None, dict[str, str]]

CASES: dict[str, Case] = {
    "ping": ("GET", "/ping", None, {}),
    "ping by POST": ("POST", "/ping", b"", {}),
    "live": ("GET", "/v2/health/live", None, {}),
    "ready": ("GET", "/v2/health/ready", None, {}),
    "server": ("GET", "/v2", None, {}),
    "metadata": ("GET", OIP, None, {}),
    "metadata of a version": ("GET", OIP + "/versions/1", None, {}),
    "model ready": ("GET", OIP + "/ready", None, {}),
    "version ready": ("GET", OIP + "/versions/1/ready", None, {}),
    "instances": ("POST", "/invocations", instances(ROW, ROW), JSON),
    "bare list": ("POST", "/invocations", json.dumps([ROW]).encode(), JSON),
    "with a charset": ("POST", "/invocations", instances(ROW), {"Content-Type": "application/json; charset=utf-8"}),
    "csv": ("POST", "/invocations", b"1,2,3,4\n", {"Content-Type": "text/csv"}),
    "json to csv": ("POST", "/invocations", instances(ROW), {**JSON, "Accept": "text/csv"}),
    "npy": ("POST", "/invocations", encoded(Npy()), dict.fromkeys(("Content-Type", "Accept"), "application/x-npy")),
    "npz": ("POST", "/invocations", encoded(Npz()), dict.fromkeys(("Content-Type", "Accept"), "application/x-npz")),
    "open inference on invocations": ("POST", "/invocations", tensor(), JSON),
    "infer": ("POST", INFER, tensor(), JSON),
    "V1 status": ("GET", V1, None, {}),
    "V1 status of a version": ("GET", V1 + "/versions/1", None, {}),
    "V1 metadata": ("GET", V1 + "/metadata", None, {}),
    "V1 list": ("GET", "/v1/models", None, {}),
    "V1 rows": ("POST", V1 + ":predict", instances(ROW, ROW), JSON),
    "V1 columns of a version": ("POST", V1 + "/versions/1:predict", json.dumps({"inputs": [ROW]}).encode(), JSON),
    "V1 malformed": ("POST", V1 + ":predict", instances([1.0]), JSON),
    "V1 unknown model": ("POST", "/v1/models/none:predict", instances(ROW), JSON),
    "infer of a version": ("POST", OIP + "/versions/1/infer", tensor(), {}),
    "infer in binary": (
        "POST", INFER, BINARY_HEAD + X.tobytes(), {"Inference-Header-Content-Length": str(len(BINARY_HEAD)), **OCTETS},
    ),
    "raw": ("POST", INFER, X.tobytes(), {"Inference-Header-Content-Length": "0", **OCTETS}),
    "inference id": ("POST", "/invocations", b"", {**JSON, "X-Amzn-SageMaker-Inference-Id": "inf-1"}),
    "malformed": ("POST", "/invocations", b"{", JSON),
    "empty": ("POST", "/invocations", b"", JSON),
    "wrong shape": ("POST", "/invocations", instances([1.0]), JSON),
    "infinite": ("POST", "/invocations", b"1,2,3,inf", {"Content-Type": "text/csv"}),
    "no media type": ("POST", "/invocations", instances(ROW), {}),
    "unknown media type": ("POST", "/invocations", b"<a/>", {"Content-Type": "text/xml"}),
    "unknown Accept": ("POST", "/invocations", instances(ROW), {**JSON, "Accept": "text/html"}),
    "poison": ("POST", "/invocations", instances([POISON] * 4), JSON),
    "no deadline": ("POST", "/invocations", instances(ROW), {**JSON, "X-Request-Deadline-Ms": "soon"}),
    "impossible deadline": ("POST", "/invocations", instances(ROW), {**JSON, "X-Request-Deadline-Ms": "0.000001"}),
    "impossible timeout": (
        "POST", INFER, json.dumps({"inputs": [{**TENSOR, "data": ROW}], "parameters": {"timeout": 0.001}}).encode(), {},
    ),
    "malformed infer": ("POST", INFER, tensor(shape=[4, 4]), JSON),
    "wrong datatype": ("POST", INFER, tensor(datatype="INT8"), JSON),
    "bad length": ("POST", INFER, tensor(), {"Inference-Header-Content-Length": "x"}),
    "oversize": ("POST", "/invocations", b" " * (LIMIT + 1), JSON),
    "oversize infer": ("POST", INFER, b" " * (LIMIT + 1), {}),
    "unknown model": ("GET", "/v2/models/other", None, {}),
    "unknown version": ("POST", OIP + "/versions/2/infer", tensor(), JSON),
    "unknown route": ("GET", "/nothing", None, {}),
    "wrong method": ("DELETE", "/invocations", None, {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServerProcess]]:
    """The fake model twice: run on the event loop, and run by a thread."""
    directory = tmp_path_factory.mktemp("both")
    model = sample_models.fake(directory / "model", poison=POISON)
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(server_process(directory / name, model, "--max-body-mb", "0.05", *flags))
            for name, flags in {"inline": [], "thread": ["--inline-below-us", "0"]}.items()
        }
        yield {name: server.ready() for name, server in servers.items()}


def comparable(answer: Answer) -> tuple[int, dict[str, str], str]:
    """Status, headers, and body; without the clock, and without numbers that depend on when it was asked."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    text = answer.body.decode("latin-1")
    if answer.status != 200:
        text = re.sub(r"[0-9.]+ ms", "_ ms", text)
        headers["content-length"] = ""
    return answer.status, headers, text


@pytest.mark.parametrize("how", ["inline", "thread"])
@pytest.mark.parametrize("name", CASES)
def test_hot_and_cold_answer_alike(both: dict[str, ServerProcess], how: str, name: str) -> None:
    method, path, body, headers = CASES[name]
    headers = {"X-Request-Id": "id-1", **headers}
    hot, cold = (both[how].request(method, path + query, body, headers) for query in ("", COLD))
    assert comparable(hot) == comparable(cold)


def test_the_cases_reach_every_status_they_mean_to(both: dict[str, ServerProcess]) -> None:
    statuses = {both["inline"].request(*CASES[name]).status for name in CASES}
    assert statuses == {200, 400, 404, 405, 406, 413, 415, 422, 500, 504}


def test_metrics_show_the_same_families_both_ways(both: dict[str, ServerProcess]) -> None:
    hot, cold = (both["inline"].get("/metrics" + query) for query in ("", COLD))
    assert hot.headers["content-type"] == cold.headers["content-type"]
    families = [[line for line in one.body.splitlines() if line.startswith(b"# TYPE")] for one in (hot, cold)]
    assert families[0] == families[1]


def test_stage_times_name_the_same_stages_both_ways(both: dict[str, ServerProcess]) -> None:
    headers = {**JSON, "X-Slipway-Timing": "1"}
    hot, cold = (both["thread"].post("/invocations" + query, instances(ROW), headers) for query in ("", COLD))
    shapes = [re.sub(r"[0-9.]+", "_", answer.headers["server-timing"]) for answer in (hot, cold)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("tail", "status"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (LIMIT + 1) + b" " * (LIMIT + 1), 413),
        (b"Content-Length: 5\r\n\r\nabc", 408),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    ],
)
def test_bodies_that_never_end_well_end_alike(tmp_path: Path, tail: bytes, status: int) -> None:
    model = sample_models.fake(tmp_path / "model")
    seen = []
    with server_process(tmp_path, model, "--read-timeout-s", "0.3", "--max-body-mb", "0.05") as server:
        server.ready()
        for query in (b"", COLD.encode()):
            with server.connect() as client:
                client.sendall(b"POST /invocations%b HTTP/1.1\r\nHost: x\r\nX-Request-Id: 1\r\n%b" % (query, tail))
                seen.append(re.sub(rb"date: [^\r]+", b"", read_to_end(client)))
    assert seen[0] == seen[1]
    assert seen[0].startswith(b"HTTP/1.1 %d " % status)
    assert b'"request_id":"1"' in seen[0]


def test_before_and_after_readiness_they_answer_alike(tmp_path: Path) -> None:
    names = ("ping", "ready", "live", "metadata", "model ready", "instances", "infer", "empty")
    asked = [CASES[name] for name in names]

    def compare(server: ServerProcess) -> set[int]:
        statuses = set()
        for method, path, body, headers in asked:
            answers = [
                server.request(method, path + query, body, {"X-Request-Id": "1", **headers}) for query in ("", COLD)
            ]
            assert comparable(answers[0]) == comparable(answers[1])
            statuses.add(answers[0].status)
        return statuses

    with server_process(tmp_path, sample_models.fake(tmp_path / "slow", load_us=60e6)) as server:
        assert compare(server.listen()) == {200, 503}
    with server_process(tmp_path, sample_models.fake(tmp_path / "model"), "--drain-grace-s", "60") as server:
        server.ready().process.terminate()
        eventually(lambda: server.get("/ping").status == 503, "the server drains")
        assert compare(server) == {200, 400, 503}


def test_overload_is_refused_alike(tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "model", wait_us=60_000, batch_sizes=(1,))
    with server_process(tmp_path, model, "--max-queue-ms", "1") as server:
        server.ready()
        assert server.get("/ping" + COLD).status == 200
        with ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(16)]
            for number, client in enumerate(clients):
                client.sendall(post_bytes(instances(ROW), "/invocations" + (COLD if number % 2 else "")))
            answers = [read_answers(client, 1)[0] for client in clients]
    refused = [
        {(one.code, one.headers["content-type"], one.headers["retry-after"]) for one in way if one.status == 429}
        for way in (answers[::2], answers[1::2])
    ]
    assert {answer.status for answer in answers} == {200, 429}
    assert refused[0] == refused[1] == {("overloaded", "application/json", "1")}
