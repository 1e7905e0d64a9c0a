"""Every limit on what is received, over raw sockets: the status, and the memory by the server's own account."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import (
    ServerProcess,
    eventually,
    instances,
    post_bytes,
    read_answers,
    server_process,
)

ROW = [1.0, 2.0, 3.0, 4.0]
BODY_BYTES, HEAD_BYTES, RECEIVE_BYTES = 2_000_000, 16_000, 5_000_000
CHUNKED = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
GET = b"GET /ping HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Small limits, and a model whose run takes 30 ms."""
    directory = tmp_path_factory.mktemp("limits")
    model = sample_models.fake(directory / "model", wait_us=30_000)
    flags = ("--max-body-mb", "2", "--max-head-kb", "16", "--max-receive-mb", "5", "--max-queue-ms", "20000")
    with server_process(directory, model, *flags, "--inline-below-us", "0") as process:
        yield process.ready()


def push(client: socket.socket, data: bytes, piece: int = 8_192) -> None:
    """Send until all is sent or the server has refused."""
    try:
        for begin in range(0, len(data), piece):
            client.sendall(data[begin : begin + piece])
    except OSError:
        return


def held(server: ServerProcess) -> float:
    return server.samples()["slipway_received_bytes"]


REFUSED = {
    "a header without end": (GET + b"X-Long: " + b"a" * 1_000_000, 431, "head_too_large"),
    "a URL without end": (b"GET /" + b"a" * 1_000_000, 414, "url_too_long"),
    "trailers without end": (CHUNKED + b"\r\n2\r\n{}\r\n0\r\nX-T: " + b"a" * 1_000_000, 431, "head_too_large"),
    "an extension without end": (CHUNKED + b"\r\n2;x=" + b"a" * 1_000_000, 431, "head_too_large"),
    "extensions of tiny chunks": (
        CHUNKED + b"\r\n" + (b"1;x=" + b"a" * 500 + b"\r\n \r\n") * 5_000,
        413,
        "body_too_large",
    ),
    "a large body of two-byte chunks": (CHUNKED + b"\r\n" + b"2\r\n  \r\n" * 400_000, 413, "body_too_large"),
    "an announced large body": (GET + b"Content-Length: 2000001\r\n\r\n", 413, "body_too_large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_exceeds_a_limit_is_refused_and_nothing_is_kept(server: ServerProcess, name: str) -> None:
    data, status, code = REFUSED[name]
    client = server.connect()
    push(client, data)
    (answer,) = read_answers(client, 1)
    assert (answer.status, answer.code) == (status, code)
    client.close()
    eventually(lambda: held(server) == 0, "nothing is held")
    assert server.samples()["slipway_received_peak_bytes"] < 3_000_000


def test_a_body_in_two_byte_chunks_is_read(server: ServerProcess) -> None:
    body = instances(ROW).ljust(150_000)
    wire = b"".join(b"2\r\n%b\r\n" % body[begin : begin + 2] for begin in range(0, len(body), 2))
    client = server.connect()
    client.sendall(CHUNKED + b"\r\n" + wire + b"0\r\n\r\n")
    (answer,) = read_answers(client, 1)
    assert answer.status == 200


def test_requests_behind_a_slow_one_are_bounded_in_bytes_and_all_answered(server: ServerProcess) -> None:
    body = instances(ROW).ljust(400_000)
    client = server.connect()
    client.setblocking(False)
    data = memoryview(post_bytes(body) * 12)
    peak = 0.0
    answered = b""
    while answered.count(b"HTTP/1.1 200") < 12:
        try:
            data = data[client.send(data[:100_000]) :]
        except BlockingIOError:
            peak = max(peak, held(server))
        try:
            answered += client.recv(65_536)
        except BlockingIOError:
            continue
    assert peak < 2_500_000


def test_unfinished_bodies_share_a_budget_and_small_requests_go_on(server: ServerProcess) -> None:
    part = post_bytes(b" " * 1_900_000)[:-10]
    first, second, third = (server.connect() for _ in range(3))
    for client in (first, second):
        client.sendall(part)
    eventually(lambda: held(server) > 3_700_000, "two bodies are held")
    push(third, part)
    (refused,) = read_answers(third, 1)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "server_full", "1")
    assert server.post("/invocations", {"instances": [ROW]}).status == 200
    for client in (first, second):
        client.close()
    eventually(lambda: held(server) == 0, "nothing is held")
    assert server.samples()["slipway_received_peak_bytes"] <= RECEIVE_BYTES
    assert server.samples()["slipway_refused_total{code=server_full}"] == 1


def test_a_half_closed_client_gets_its_response(server: ServerProcess) -> None:
    client = server.connect()
    client.sendall(post_bytes(instances(ROW)) * 3)
    client.shutdown(socket.SHUT_WR)
    received = b""
    while chunk := client.recv(65_536):
        received += chunk
    assert received.count(b"HTTP/1.1 200 OK") == 3


def test_connections_are_limited(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = sample_models.fake(tmp_path_factory.mktemp("few") / "model")
    server = serve(model, "--max-connections", "4").listen()
    eventually(lambda: b"200 OK" in ping(server), "/ping says 200")
    unfinished = [server.connect() for _ in range(4)]
    for client in unfinished:
        client.sendall(post_bytes(b" " * 1_000)[:-1])
    eventually(lambda: b"503 Service" in ping(server), "all connections are taken")
    unfinished[0].close()
    eventually(lambda: b"200 OK" in ping(server), "one is free")


def ping(server: ServerProcess) -> bytes:
    """The answer of a connection, also where it comes before the request."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        try:
            client.sendall(GET + b"Connection: close\r\n\r\n")
            return client.recv(65_536)
        except ConnectionError:
            return b""


@pytest.mark.slow
def test_a_client_that_left_for_good_is_found_although_its_end_looks_half_closed(
    serve: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = sample_models.fake(tmp_path_factory.mktemp("slow") / "model", wait_us=1_500_000, batch_sizes=(1,))
    server = serve(model, "--max-queue-ms", "60000", "--inline-below-us", "0", "--max-batch-size", "1").ready()
    running, leaving, staying = (server.connect() for _ in range(3))
    running.sendall(post_bytes(instances(ROW)))
    eventually(lambda: server.samples().get("slipway_queue_rows", 1) == 0, "it runs")
    leaving.sendall(post_bytes(instances(ROW)))
    eventually(lambda: server.samples()["slipway_queue_rows"] == 1, "it waits")
    leaving.close()
    staying.sendall(post_bytes(instances(ROW)))
    staying.shutdown(socket.SHUT_WR)
    stream = staying.makefile("rb")
    received = stream.read()
    assert b"HTTP/1.1 200 OK" in received
    assert server.samples()["slipway_requests_total{outcome=client_gone}"] == 1
