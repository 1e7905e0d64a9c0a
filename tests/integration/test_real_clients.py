"""Clients as they are: libraries, command lines, and sockets that are slow, rude, old or in a hurry."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import (
    JSON,
    ServerProcess,
    instances,
    post_bytes,
    read_answers,
    read_to_end,
)

WAYS = ["/invocations", "/invocations?cold=1"]


def row(value: float) -> list[float]:
    return [value] * 4


def predictions(value: float) -> dict[str, list[list[float]]]:
    return {"predictions": [[2 * value] * 4]}


def test_http_client_keeps_its_connection_through_good_and_bad(inline_server: ServerProcess) -> None:
    client = http.client.HTTPConnection("127.0.0.1", inline_server.port, timeout=30)
    client.connect()
    first = client.sock
    for number in range(20):
        path = WAYS[number % 3 == 2]
        client.request("POST", path, instances(row(number)) if number % 2 else b"nonsense", JSON)
        response = client.getresponse()
        body = json.loads(response.read())
        assert response.status == (200 if number % 2 else 400)
        assert not number % 2 or body == predictions(number)
        assert client.sock is first
    client.close()


def test_urllib(inline_server: ServerProcess) -> None:
    url = f"http://127.0.0.1:{inline_server.port}/invocations"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, instances(row(1)), JSON), timeout=30) as response:
        assert json.load(response) == predictions(1)
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(urllib.request.Request(url, b"nonsense", JSON), timeout=30)
    with caught.value as error:
        assert json.load(error)["code"] == "malformed_input"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "options",
    [
        ["-d", '{"instances":[[1,1,1,1]]}'],
        ["-d", '{"instances":[[1,1,1,1]]}', "-H", "Expect: 100-continue"],
        ["-d", '{"instances":[[1,1,1,1]]}', "-H", "Transfer-Encoding: chunked"],
        ["-d", '{"instances":[[1,1,1,1]]}', "--http1.0"],
        ["-d", '{"instances":[[1,1,1,1]]}', "-H", "Connection: Upgrade", "-H", "Upgrade: h2c"],
    ],
)
def test_curl(inline_server: ServerProcess, options: list[str]) -> None:
    url = f"http://127.0.0.1:{inline_server.port}/invocations"
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]
    done = subprocess.run(
        [*command, "-H", "Content-Type: application/json", *options, url], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == predictions(1)


@pytest.mark.parametrize("path", WAYS)
def test_a_wish_for_another_protocol_costs_neither_the_body_nor_what_follows(
    inline_server: ServerProcess, path: str
) -> None:
    wish = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    data = post_bytes(instances(row(1)), path, wish + "Content-Type: application/json\r\n")
    with inline_server.connect() as client:
        client.sendall(data * 3 + post_bytes(instances(row(2)), path))
        answers = read_answers(client, 4)
        client.sendall(data[:-7])
        assert inline_server.get("/ping").status == 200
        client.sendall(data[-7:])
        answers += read_answers(client, 1)
    assert [answer.json() for answer in answers] == [predictions(value) for value in (1, 1, 1, 2, 1)]


def test_connect_is_refused(inline_server: ServerProcess) -> None:
    with inline_server.connect() as client:
        client.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n")
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", WAYS)
def test_a_client_that_half_closes_before_its_answer_has_left(waiting_server: ServerProcess, path: str) -> None:
    with waiting_server.connect() as client:
        client.sendall(post_bytes(instances(row(1)), path))
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client).startswith(b"HTTP/1.1 200 ")


def sent_until_full(client: socket.socket, data: bytes, limit: int | None = None) -> int:
    """Send ``data``, again and again up to ``limit`` bytes, until the server takes no more; how much it took."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < (limit or len(data)):
            sent += client.send(memoryview(data)[sent % len(data) :])
    return sent


def test_a_client_that_never_reads_stops_being_served_and_costs_little(serve: Serve, tmp_path: Path) -> None:
    server = serve(sample_models.fake(tmp_path / "model", width=4)).ready()
    data = post_bytes(instances(*[[0.1, 0.2, 0.3, float(number)] for number in range(500)]))
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.settimeout(0.5)
        answered = server.samples().get("slipway_requests_total{outcome=ok}", 0)
        before = server.rss_bytes()
        taken = sent_until_full(client, data, 60_000_000)
        assert taken < 50_000_000  # the server stops reading, so there is an end to what it takes
        assert server.rss_bytes() < before + 30_000_000
        assert server.post("/invocations", {"instances": [row(1)]}).json() == predictions(1)
        assert server.samples()["slipway_requests_total{outcome=ok}"] > answered
    assert server.get("/ping").status == 200


def test_a_client_that_reads_late_gets_its_answers_in_their_order(inline_server: ServerProcess) -> None:
    rows = [[0.5, 0.25, 0.125, float(number)] for number in range(400)]
    requests = [post_bytes(instances([float(number)] * 4, *rows)) for number in range(120)]
    with inline_server.connect() as client:
        client.settimeout(0.3)
        sent = sent_until_full(client, b"".join(requests))
        client.settimeout(30)
        complete = sum(1 for index in range(120) if sum(map(len, requests[: index + 1])) <= sent)
        assert complete > 0
        stream = read_answers(client, complete)
    assert [answer.json()["predictions"][0][0] for answer in stream] == [2.0 * number for number in range(complete)]
