"""The burst probe: simulated servers that take turns are told apart, and real sockets are read to the end."""

from __future__ import annotations

import asyncio
import queue
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from bench.errors import Unusable
from bench.explain import concurrency
from bench.load import burst, exchange, target, wire
from bench.load.burst import Burst
from bench.load.exchange import Answer
from bench.load.payload import JSON, Payload
from bench.load.server_timing import CARRIERS
from tests.unit.bench.known import known

EACH_MS, FLOOR_MS = 20.0, 0.5
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def one_by_one(at_ms: list[float]) -> list[float]:
    """The ends of requests that a server works on one at a time."""
    free, ends = 0.0, []
    for at in at_ms:
        free = max(free, at) + EACH_MS
        ends.append(free)
    return ends


def at_once(at_ms: list[float]) -> list[float]:
    """The ends of requests that do not wait for each other."""
    return [at + EACH_MS for at in at_ms]


def in_batches(at_ms: list[float]) -> list[float]:
    """The ends of requests that join the batch of the first one until its timer ends."""
    ends: list[float] = []
    due = -1.0
    for at in at_ms:
        due = due if at <= due else at + EACH_MS
        ends.append(due)
    return ends


class FakeProber(burst.Prober):
    """Answers by a rule, in virtual time."""

    def __init__(self, rule: Callable[[list[float]], list[float]]) -> None:
        super().__init__(target.parse("http://127.0.0.1:1/predict"), 5.0)
        self._rule = rule

    def send(self, wires: Sequence[bytes], gap_ms: float = 0.0, fresh: bool = False) -> list[Answer]:
        self.connects_ms.append(0.2)
        self.sent += len(wires)
        if wires[0].startswith(b"GET"):
            return [Answer(404, FLOOR_MS, 0.0, 0, kept=True)]
        at_ms = [number * gap_ms for number in range(len(wires))]
        ends = self._rule(at_ms)
        return [Answer(200, end - at, 0.0, 2, kept=True) for at, end in zip(at_ms, ends, strict=True)]


def simulated(rule: Callable[[list[float]], list[float]]) -> Burst:
    place = target.parse("http://127.0.0.1:1/predict")
    rendered = wire.render(place, Payload("p", JSON, b'{"values": [1]}'), CARRIERS["none"])
    return known(burst._probe(FakeProber(rule), place, rendered, lambda: None, lambda _s: None))


@contextmanager
def serving(close: int = 0, answer: bytes = ANSWER) -> Iterator[str]:
    """A server in a thread that answers every POST with ``answer``, and every GET with 404. It closes a connection
    after ``close`` answers without a word before (0: never)."""
    started: queue.Queue[tuple[int, Callable[[], object]]] = queue.Queue()

    async def serve() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answers = 0
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                    if lengths:
                        await reader.readexactly(int(lengths[0][15:]))
                    writer.write(answer if head.startswith(b"POST") else MISSING)
                    answers += 1
                    if answers == close:
                        break
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            writer.close()

        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with server:
            started.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(ended.set)))
            await ended.wait()
        await asyncio.sleep(0)  # the handlers see that their clients left

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    port, end = started.get()
    try:
        yield f"http://127.0.0.1:{port}/predict"
    finally:
        end()
        thread.join()


def probed(
    url: str, body: bytes = b'{"values": [1]}', quiet: Callable[[float], object] = lambda _s: None
) -> Burst | None:
    place = target.parse(url)
    rendered = wire.render(place, Payload("p", JSON, body), CARRIERS["none"])
    return burst.probe(place, rendered, 5.0, quiet=quiet)


@pytest.mark.parametrize("close", [True, False])
def test_a_connection_that_the_server_does_not_keep_is_opened_ahead_of_its_request(close: bool) -> None:
    waited: list[float] = []
    with serving(close) as url:
        assert probed(url, quiet=waited.append) is not None
    assert (waited.count(burst.SETTLE_S) >= burst.ALONE) == close
    assert waited.count(burst.SETTLE_S) + 1 == len(waited)


@pytest.mark.parametrize(
    ("rule", "serial", "timer"), [(one_by_one, True, False), (at_once, False, False), (in_batches, False, True)]
)
def test_a_server_shows_how_it_takes_turns(
    rule: Callable[[list[float]], list[float]], serial: bool, timer: bool
) -> None:
    found = simulated(rule)
    seen = known(concurrency.of(found, 15))
    assert (seen.serial >= concurrency.SERIAL_FROM) == serial
    assert (seen.timer_ms > 0) == timer
    assert found.alone_ms == EACH_MS
    assert found.floor_ms == FLOOR_MS  # a 404 is an answer that needs no model
    assert found.padded_ms == EACH_MS
    assert found.cpu_ms is None  # nobody told the probe of the server's processes


@pytest.mark.parametrize(("close", "connections"), [(0, 1), (1, 6), (2, 3), (4, 2)])
def test_a_connection_is_used_as_long_as_the_server_keeps_it(close: int, connections: int) -> None:
    with serving(close) as url:
        place = target.parse(url)
        request = wire.render(place, Payload("p", JSON, b"{}"), CARRIERS["none"]).numbered(0)
        prober = burst.Prober(place, 5.0)
        assert all(prober.send([request])[0].ok for _ in range(6))
        assert len(prober.connects_ms) == connections
        assert (prober.sent, prober.failed) == (6, 0)
        prober.close()


@pytest.mark.parametrize("close", [1, 3])
def test_a_server_that_closes_connections_is_probed_too(close: int) -> None:
    with serving(close) as url:
        found = probed(url)
    assert found is not None
    assert found.failed == 0
    assert all(len(one.ends_ms) == one.size for one in found.together)


def test_a_worker_that_waits_until_the_client_has_closed_gets_the_next_request_at_once() -> None:
    closing = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(closing)
            self.request.recv(1)  # the end of the connection

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        place = target.parse(f"http://127.0.0.1:{server.server_address[1]}/predict")
        request = wire.render(place, Payload("p", JSON, b"{}"), CARRIERS["none"]).numbered(0)
        answers = burst.Prober(place, 5.0).send([request] * 3)
        server.shutdown()
        thread.join()
    assert [one.status for one in answers] == [200, 200, 200]


def test_a_server_that_refuses_or_is_gone_gives_nothing() -> None:
    with serving(answer=b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n") as url:
        assert probed(url) is None
    assert probed("http://127.0.0.1:1/predict") is None


def test_only_a_json_body_gets_white_space() -> None:
    place = target.parse("http://127.0.0.1:1/predict")
    body = b'{"values": [1]}'
    rendered = wire.render(place, Payload("p", JSON, body), CARRIERS["none"])
    padded = known(burst._padding(rendered, rendered.numbered(0)))
    head, _, sent = padded.partition(b"\r\n\r\n")
    assert sent.rstrip() == body
    assert f"Content-Length: {len(sent)}".encode() in head
    binary = wire.render(place, Payload("p", "application/x-npy", body), CARRIERS["none"])
    assert burst._padding(binary, binary.numbered(0)) is None


def test_first_requests_are_timed_one_by_one_and_a_failure_is_an_error() -> None:
    with serving() as url:
        place = target.parse(url)
        rendered = wire.render(place, Payload("p", JSON, b"{}"), CARRIERS["none"])
        assert len(burst.one_by_one(place, rendered, 3, 5.0)) == 3
    failing = serving(answer=b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
    with failing as url, pytest.raises(Unusable, match="500"):
        burst.one_by_one(target.parse(url), rendered, 3, 5.0)
    with pytest.raises(Unusable, match="does not answer"):
        burst.one_by_one(target.parse("http://127.0.0.1:1/predict"), rendered, 3, 5.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux alone tells the rate")
@pytest.mark.parametrize(("body", "told"), [(b"[1]", False), (b" " * exchange.LARGE_BYTES, True)])
def test_the_rate_of_tcp_tells_what_a_large_request_needs_on_the_link(body: bytes, told: bool) -> None:
    with serving() as url:
        found = probed(url, body)
    assert found is not None
    assert (found.upload_ms is not None) == told


def test_the_rate_is_read_where_linux_has_it() -> None:
    info = bytearray(168)
    struct.pack_into("I", info, 148, 4_000)
    struct.pack_into("Q", info, 160, 1_000_000)

    class Kernel:
        def getsockopt(self, _level: int, _option: int, size: int) -> bytes:
            return bytes(info[:size])

    line = exchange.Line(Kernel(), request_bytes=100_000)  # type: ignore[arg-type]
    assert line.upload_ms() == pytest.approx(100 - 4)
