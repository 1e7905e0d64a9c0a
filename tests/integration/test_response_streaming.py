"""Lines as they are ready, over real sockets: a stream is what the whole answer would have been, and costs no more."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.server_process import (
    PATIENCE_S,
    ServerProcess,
    eventually,
    post_bytes,
    read_to_end,
    reset,
    server_process,
)

STREAM = {"X-Amzn-SageMaker-Forwarded-Api": "InvokeEndpointWithResponseStream"}
LINES = {"Content-Type": "application/jsonlines", "Accept": "application/jsonlines"}
BODY = b"".join(b"[%d,1,2,3]\n" % row for row in range(20))
WANTED = [[2.0 * row, 2, 4, 6] for row in range(20)]
WIRE = "Content-Type: application/jsonlines\r\nAccept: application/jsonlines\r\n" + "".join(
    f"{name}: {value}\r\n" for name, value in STREAM.items()
)


@pytest.fixture(scope="module", params=["inline", "thread"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    directory = tmp_path_factory.mktemp(request.param)
    model = sample_models.fake(directory / "model", poison=666)
    flags = ["--inline-below-us", "0", "--instances", "2"] if request.param == "thread" else []
    with server_process(directory, model, *flags) as server:
        yield server.ready()


def ask(server: ServerProcess, body: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    try:
        client.request("POST", "/invocations", body, headers)
        response = client.getresponse()
        return response, response.read()
    finally:
        client.close()


@pytest.mark.parametrize("accept", ["application/jsonlines", "text/csv"])
def test_a_stream_holds_what_the_whole_answer_holds(served: ServerProcess, accept: str) -> None:
    headers = {**LINES, "Accept": accept}
    whole, plain = ask(served, BODY, headers)
    stream, pieces = ask(served, BODY, {**headers, **STREAM})
    assert (whole.status, whole.getheader("Transfer-Encoding")) == (200, None)
    assert (stream.status, stream.getheader("Transfer-Encoding")) == (200, "chunked")
    assert stream.getheader("Content-Type") == whole.getheader("Content-Type")
    assert pieces == plain


def test_json_is_never_sent_in_pieces(served: ServerProcess) -> None:
    response, body = ask(served, BODY, {**LINES, "Accept": "application/json", **STREAM})
    assert response.getheader("Transfer-Encoding") is None
    assert json.loads(body)["predictions"] == WANTED


def test_what_is_wrong_from_the_start_is_an_ordinary_failure(served: ServerProcess) -> None:
    response, body = ask(served, b"[1]\n", {**LINES, **STREAM})
    assert (response.status, json.loads(body)["code"]) == (400, "malformed_input")
    response, body = ask(served, b"[666,0,0,0]\n", {**LINES, **STREAM})
    assert (response.status, json.loads(body)["code"]) == (500, "model_failed")


def test_what_goes_wrong_later_breaks_the_answer_off_and_is_counted(served: ServerProcess) -> None:
    before = served.samples().get("slipway_requests_total{outcome=model_failed}", 0.0)
    with pytest.raises(http.client.IncompleteRead) as seen:
        ask(served, BODY + b"[666,0,0,0]\n", {**LINES, **STREAM})
    assert [json.loads(line) for line in seen.value.partial.splitlines()] == WANTED[
        : len(seen.value.partial.splitlines())
    ]
    assert served.samples()["slipway_requests_total{outcome=model_failed}"] == before + 1
    assert served.get("/ping").status == 200


def test_http_1_0_gets_no_chunks(served: ServerProcess) -> None:
    with served.connect() as client:
        client.sendall(post_bytes(BODY, headers=WIRE).replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert f"content-length: {len(body)}".encode() in head
    assert [json.loads(line) for line in body.splitlines()] == WANTED


def test_a_request_with_a_query_gets_the_same_lines_whole(served: ServerProcess) -> None:
    cold = served.request("POST", "/invocations?cold=1", BODY, {**LINES, **STREAM})
    assert [json.loads(line) for line in cold.body.splitlines()] == WANTED


def test_the_first_lines_leave_before_the_last_ones_are_computed_and_nobody_computes_for_who_left(
    tmp_path: Path,
) -> None:
    model = sample_models.fake(tmp_path / "model", wait_us=50_000, batch_sizes=(1,))
    with server_process(tmp_path, model) as server:
        server.ready()
        rows_before = server.samples()["slipway_batch_rows_sum"]
        client = server.connect()
        client.sendall(post_bytes(BODY * 10, headers=WIRE))
        received = b""
        while received.count(b"\n") < 8:  # the head, and the first line or two of 200, which take 10 seconds in all
            received += client.recv(65_536)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        reset(client)
        eventually(lambda: server.samples().get("slipway_requests_total{outcome=client_gone}"), "the client is missed")
        eventually(lambda: server.samples()["slipway_queue_rows"] == 0, "nothing of it waits any more")
        assert server.samples()["slipway_batch_rows_sum"] - rows_before < 100


def test_a_setting_streams_to_everybody(tmp_path: Path) -> None:
    with server_process(tmp_path, sample_models.fake(tmp_path / "model"), "--stream-rows", "3") as server:
        server.ready()
        with server.connect() as client:
            client.sendall(post_bytes(BODY, headers="Content-Type: application/jsonlines\r\nAccept: text/csv\r\n"))
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += client.recv(65_536)
    assert received.count(b"\r\n") == received.partition(b"\r\n\r\n")[0].count(b"\r\n") + 2 + 2 * 7 + 2
