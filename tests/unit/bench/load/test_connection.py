"""One connection, cranked by hand: every instant is the fake clock's, no socket and no loop."""

from __future__ import annotations

import asyncio

import pytest

from bench.load.connection import Connection
from bench.load.measurements import Ending, Outcome, Request
from bench.load.server_timing import CARRIERS, MISSING, STAGES
from tests.unit.bench.stub_server import TIMING, http


class FakeTransport(asyncio.Transport):
    """Takes ``room`` bytes at once, keeps the rest in its buffer."""

    def __init__(self, room: int = 1_000_000) -> None:
        super().__init__()
        self.room = room
        self.buffered = 0
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.buffered += max(0, len(data) - self.room)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Bench:
    """A connection, its transport, its clock, and what it told its owner."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.now_ns = 0
        self.events: list[tuple[Request, Ending, int]] = []
        self.transport = FakeTransport(room)
        self.connection = Connection(self, CARRIERS["header"], lambda: self.now_ns)
        self.connection.connection_made(self.transport)

    def opened(self, connection: Connection) -> None:
        assert connection.usable

    def ended(self, connection: Connection, request: Request, ending: Ending, last_byte_ns: int) -> None:
        self.events.append((request, ending, last_byte_ns))

    def closed(self, connection: Connection) -> None:
        assert not connection.usable

    def send(self, at_ns: int) -> Request:
        self.now_ns = at_ns
        request = Request(0, at_ns - 7, at_ns - 2, b"POST / HTTP/1.1\r\n\r\n" * 10, payload=0, bytes_out=0)
        self.connection.send(request)
        return request

    def receive(self, data: bytes, at_ns: int) -> None:
        self.now_ns = at_ns
        self.connection.data_received(data)


def test_each_instant_is_stamped_when_it_happens() -> None:
    bench = Bench()
    request = bench.send(100)
    reply = http(200, b"hello", Server_Timing=TIMING).data
    bench.receive(reply[:30], 150)
    bench.receive(reply[30:], 180)
    ((ended, ending, last_byte_ns),) = bench.events
    assert ended is request
    assert (request.send_ns, request.sent_ns, request.first_byte_ns, last_byte_ns) == (100, 100, 150, 180)
    assert (ending.outcome, ending.status, ending.bytes_in) == (Outcome.OK, 200, 5)
    assert ending.timing[STAGES.index("compute")] == 10_000
    assert bench.connection.usable


def test_a_body_that_does_not_fit_is_sent_when_the_buffer_is_empty() -> None:
    bench = Bench(room=50)
    request = bench.send(100)
    assert request.sent_ns == MISSING
    bench.now_ns, bench.transport.buffered = 140, 0
    bench.connection.resume_writing()
    assert request.sent_ns == 140


def test_a_connection_is_used_again_until_told_otherwise() -> None:
    bench = Bench()
    for at in (100, 200):
        bench.send(at)
        bench.receive(http().data, at + 10)
    bench.send(300)
    bench.receive(http(Connection="close").data, 310)
    assert len(bench.events) == 3
    assert not bench.connection.usable
    assert bench.transport.closed


def test_one_byte_at_a_time_is_one_reply() -> None:
    bench = Bench()
    bench.send(100)
    for at, byte in enumerate(http(body=b"abc").data):
        bench.receive(bytes([byte]), 101 + at)
    assert [ending.bytes_in for _, ending, _ in bench.events] == [3]


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"", Outcome.CONNECTION),
        (b"HTTP/1.1 200 OK\r\nContent-Le", Outcome.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Outcome.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", Outcome.TRUNCATED),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", Outcome.OK),
        (b"HTTP/1.1 500 Oops\r\n\r\nuntil the end", Outcome.STATUS),
    ],
)
def test_a_lost_connection_ends_the_request_as_far_as_it_got(data: bytes, outcome: Outcome) -> None:
    bench = Bench()
    bench.send(100)
    if data:
        bench.receive(data, 110)
    bench.now_ns = 120
    bench.connection.connection_lost(None)
    assert [ending.outcome for _, ending, _ in bench.events] == [outcome]


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00\x01\x02"])
def test_what_is_not_http_is_broken_not_fatal(data: bytes) -> None:
    bench = Bench()
    bench.send(100)
    bench.receive(data, 110)
    assert [ending.outcome for _, ending, _ in bench.events] == [Outcome.TRUNCATED]
    assert bench.transport.closed


def test_an_interim_answer_is_not_the_answer() -> None:
    bench = Bench()
    bench.send(100)
    bench.receive(b"HTTP/1.1 100 Continue\r\n\r\n", 110)
    assert not bench.events
    bench.receive(http(201).data, 120)
    assert [ending.status for _, ending, _ in bench.events] == [201]


@pytest.mark.parametrize("surplus", [http(500).data, b"HTTP/1.1 50", b"nonsense"])
def test_surplus_bytes_are_never_the_next_reply(surplus: bytes) -> None:
    bench = Bench()
    bench.send(100)
    bench.receive(http(200).data + surplus, 110)
    assert [ending.status for _, ending, _ in bench.events] == [200]
    assert not bench.connection.usable


def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    bench = Bench()
    bench.receive(http(200).data, 100)  # nobody asked
    assert not bench.events
    assert not bench.connection.usable


def test_an_answer_before_the_request_was_sent_ends_the_connection() -> None:
    bench = Bench(room=10)
    bench.send(100)
    bench.receive(http(413).data, 110)
    assert [ending.status for _, ending, _ in bench.events] == [413]
    assert not bench.connection.usable


def test_the_words_of_an_error_are_kept_and_bounded() -> None:
    bench = Bench()
    bench.send(100)
    bench.receive(http(500, b"x" * 100_000).data, 110)
    ((_, ending, _),) = bench.events
    assert ending.detail == b"x" * 4096
    assert ending.bytes_in == 100_000


def test_a_page_is_no_answer_to_a_body_but_one_to_a_question_without() -> None:
    bench = Bench()
    for at, body_bytes in ((100, 0), (200, 5)):
        request = bench.send(at)
        request.bytes_out = body_bytes
        bench.receive(http(200, b"<html>log in</html>", Content_Type="text/html; charset=utf-8").data, at + 10)
    outcomes = [ending.outcome for _, ending, _ in bench.events]
    assert outcomes == [Outcome.OK, Outcome.HTML]
    assert bench.events[1][1].detail == b"<html>log in</html>"
