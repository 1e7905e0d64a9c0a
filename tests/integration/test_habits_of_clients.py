"""Habits of other clients, over sockets: compressed bodies, byte order marks, HEAD, slashes, asynchronous requests."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import save

from tests.integration.conftest import Serve
from tests.integration.server_process import Answer, ServerProcess, read_answers, server_process
from tests.integration.test_scripts import folder
from tests.zoo.onnx_graph import graph

ROWS = b'{"instances": [[1.5, 2.5]]}'
ANSWER = {"predictions": [[1.5, 2.5]]}


def identity(path: Path) -> Path:
    """A model of [any, 2] that returns its input."""
    save(graph("g (float[n, 2] x) => (float[n, 2] y) { y = Identity(x) }"), path)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp("habits")
    with server_process(directory, identity(directory / "model.onnx"), "--max-body-mb", "1") as process:
        yield process.ready()


def post(server: ServerProcess, body: bytes, kind: str = "application/json", **headers: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.post("/invocations", body, {"Content-Type": kind, **more})


def test_a_script_gets_the_expanded_body(serve: Serve, tmp_path: Path) -> None:
    script = "def model_fn(d): return 0\ndef input_fn(b, k): return len(b)\ndef predict_fn(x, m): return x\n"
    started = serve(folder(tmp_path / "model", script)).ready()
    assert post(started, gzip.compress(bytes(70_000)), "application/x-own", Content_Encoding="gzip").json() == 70_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [(ROWS, "application/json"), (b"[1.5, 2.5]\n", "application/jsonlines"), (b"1.5,2.5\n", "text/csv")],
)
def test_a_byte_order_mark_is_skipped(server: ServerProcess, body: bytes, kind: str) -> None:
    assert post(server, b"\xef\xbb\xbf" + body, kind).json() == ANSWER


def test_a_csv_response_has_the_bare_media_type(server: ServerProcess) -> None:
    answer = post(server, b"1,2\n", "text/csv; charset=utf-8", Accept="text/csv")
    assert answer.headers["content-type"] == "text/csv"


def test_a_slash_at_the_end_and_head_are_served_and_never_redirected(server: ServerProcess) -> None:
    for path in ("/ping", "/ping/", "/metrics", "/v2/health/ready/"):
        answer = server.request("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
    client = server.connect()
    head = f"Host: api.example.com\r\nX-Forwarded-Proto: https\r\nContent-Length: {len(ROWS)}\r\n"
    client.sendall(f"POST /invocations/ HTTP/1.1\r\nContent-Type: application/json\r\n{head}\r\n".encode() + ROWS)
    (answer,) = read_answers(client, 1)
    assert (answer.status, answer.json()) == (200, ANSWER)
    assert server.get("/no/such/route/").code == "unknown_route"


def test_a_head_request_does_not_confuse_its_connection(server: ServerProcess) -> None:
    client = server.connect()
    client.sendall(b"HEAD /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    first = client.recv(65_536)
    assert first.startswith(b"HTTP/1.1 200")
    assert first.endswith(b"\r\n\r\n")
    client.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_answers(client, 1)[0].status == 200
    client.shutdown(socket.SHUT_RDWR)


YIELDS = """
def model_fn(model_dir): return 0
def predict_fn(data, model): return data
def output_fn(prediction, accept):
    def parts():
        yield "one "
        if prediction[0] < 0: raise KeyError("late")
        yield "two"
    return parts(), "text/plain"
"""


def test_an_asynchronous_request_gets_a_length_and_a_stream_gets_chunks(serve: Serve, tmp_path: Path) -> None:
    started = serve(folder(tmp_path / "model", YIELDS)).ready()
    name = "X-Amzn-SageMaker-Forwarded-Api"
    whole = post(started, b"[1]", **{name: "InvokeEndpointAsync"})
    assert (whole.headers["content-length"], whole.body) == ("7", b"one two")
    failed = post(started, b"[-1]", **{name: "InvokeEndpointAsync"})
    assert (failed.status, failed.code) == (500, "model_failed")
    streamed = post(started, b"[1]", **{name: "InvokeEndpointWithResponseStream"})
    assert streamed.headers["transfer-encoding"] == "chunked"
    assert streamed.body == b"one two"


@pytest.mark.parametrize(("flags", "status"), [((), 200), (("--missing", "refuse"), 422)])
def test_a_setting_refuses_missing_values(serve: Serve, tmp_path: Path, flags: tuple[str, ...], status: int) -> None:
    body = "g (float[n, 2] x) => (float[n, 2] y) { missing = IsNaN(x) y = Where(missing, default, x) }"
    save(graph(body, default=np.array([-1], np.float32)), tmp_path / "model.onnx")
    answer = post(serve(tmp_path / "model.onnx", *flags).ready(), b"nan,2\n3,nan\n", "text/csv", Accept="text/csv")
    assert answer.status == status, answer
    assert answer.body == b"-1.0,2.0\n3.0,-1.0\n" or b"missing" in answer.body
