"""Answers in pieces: the bytes of chunks, the client's pace, and every way in which such an answer can end early."""

from __future__ import annotations

from typing import Any

from server.errors import ModelFailed
from server.lifecycle import Phase
from server.protocols import Responder
from server.protocols.responder import Outlet
from server.protocols.streaming import begin
from server.request import Head
from tests.unit.server.http.test_hot_protocol import EPOCH, Wire, answer, post

KIND = b"application/jsonlines"
BEGUN = b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n" % (EPOCH, KIND)


class Feed:
    """A source that counts what it is told."""

    def __init__(self) -> None:
        self.resumed = self.left = 0

    def resume(self) -> None:
        self.resumed += 1

    def gone(self) -> None:
        self.left += 1


class Streaming(Wire):
    """A connection whose handler begins an answer and leaves the rest to the test."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.feed = Feed()
        self.outlets: list[Outlet] = []
        self.hot.table[b"/stream"] = {b"POST": self.stream}

    def stream(self, head: Head, body: bytes, responder: Responder) -> None:
        self.outlets.append(begin(head, responder, 200, KIND, self.feed, [(b"x-note", b"1")]))

    def open(self, version: bytes = b"1.1") -> Outlet:
        self.send(post(b"", b"/stream").replace(b"HTTP/1.1", b"HTTP/" + version))
        return self.outlets[-1]


def test_pieces_are_chunks() -> None:
    wire = Streaming()
    assert wire.send(post(b"", b"/stream")) == BEGUN + b"x-note: 1\r\n\r\n"
    outlet = wire.outlets[0]
    outlet.write(b"[1]\n")
    assert wire.transport.take() == b"4\r\n[1]\n\r\n"
    outlet.write(b"")
    assert wire.transport.take() == b""
    outlet.write(b"x" * 300)
    outlet.end()
    assert wire.transport.take() == b"12c\r\n" + b"x" * 300 + b"\r\n0\r\n\r\n"
    assert not wire.transport.closed
    assert wire.send(post(b"next")) == answer(b"next")


def test_what_was_pipelined_waits_for_the_last_chunk() -> None:
    wire = Streaming()
    wire.send(post(b"", b"/stream") + post(b"next"))
    wire.transport.take()
    wire.outlets[0].write(b"a")
    assert wire.transport.take() == b"1\r\na\r\n"
    wire.outlets[0].end()
    assert wire.transport.take() == b"0\r\n\r\n" + answer(b"next")


def test_a_failure_after_the_first_byte_closes_without_a_last_chunk() -> None:
    wire = Streaming()
    outlet = wire.open()
    outlet.write(b"a")
    wire.transport.take()
    outlet.fail(ModelFailed("no"))
    assert wire.transport.take() == b""
    assert wire.transport.closed
    outlet.write(b"late")
    outlet.end()
    assert wire.transport.take() == b""


def test_a_client_that_does_not_read_is_not_written_to() -> None:
    wire = Streaming()
    outlet = wire.open()
    assert outlet.writable
    wire.protocol.pause_writing()
    assert not outlet.writable
    wire.protocol.resume_writing()
    assert outlet.writable
    assert wire.feed.resumed == 1


def test_a_client_that_leaves_is_told_of_once() -> None:
    wire = Streaming()
    outlet = wire.open()
    wire.transport.closed = True
    wire.protocol.connection_lost(None)
    outlet.write(b"late")
    outlet.end()
    assert (wire.feed.left, wire.feed.resumed) == (1, 0)


def test_a_stream_may_begin_after_the_client_has_left() -> None:
    wire = Streaming()
    wire.send(post(b"", b"/hold"))
    wire.transport.closed = True
    wire.protocol.connection_lost(None)
    outlet = begin(wire.heads[0], wire.held[0], 200, KIND, wire.feed)
    outlet.write(b"late")
    outlet.end()
    assert wire.transport.take() == b""


def test_http_1_0_gets_it_whole() -> None:
    wire = Streaming()
    outlet = wire.open(b"1.0")
    outlet.write(b"ab")
    outlet.write(b"c")
    assert wire.transport.take() == b""
    outlet.end()
    assert wire.transport.take() == answer(b"abc", kind=KIND, extra=b"x-note: 1\r\nconnection: close\r\n")
    assert wire.transport.closed


def test_http_1_0_hears_of_a_failure() -> None:
    wire = Streaming()
    outlet = wire.open(b"1.0")
    outlet.write(b"ab")
    outlet.fail(ModelFailed("no"))
    assert wire.transport.take().startswith(b"HTTP/1.1 500 ")


def test_while_draining_the_answer_is_the_last_of_its_connection() -> None:
    wire = Streaming()
    wire.lifecycle.move(Phase.DRAINING)
    outlet = wire.open()
    assert not wire.transport.closed
    outlet.end()
    assert wire.transport.closed
