"""The exchange: requests on several sockets at once, and the instants of their answers, without an event loop."""

from __future__ import annotations

import select
import selectors
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from httptools import HttpParserError, HttpResponseParser

from . import tcp_info
from .connection import Clock

READ_BYTES = 262_144
LARGE_BYTES = 20_000
"""A smaller request is under way at once, so that it says nothing of the rate of the link."""
NS_PER_MS = 1e6
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@dataclass(frozen=True, slots=True)
class Answer:
    """``status``: 0 without an answer. ``ms``: from the send to the last byte. ``kept``: the connection is usable.
    ``upload_ms``: what a large request needs on the link by the rate at which TCP delivered it; None if unknown."""

    status: int
    ms: float
    reading_ms: float
    body_bytes: int
    kept: bool
    upload_ms: float | None = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


@dataclass(slots=True, eq=False)
class Line:
    """One connection, and the answer that it reads. The methods ``on_*`` are those that the parser calls."""

    socket: socket.socket
    request_bytes: int = 0
    sent_ns: int = 0
    first_ns: int = 0
    body_bytes: int = 0
    over: bool = False
    keeps: bool = False
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    parser: HttpResponseParser = field(init=False)

    def begin(self, request: bytes, now_ns: int) -> None:
        self.parser = HttpResponseParser(self)
        self.sent_ns, self.first_ns, self.body_bytes, self.over = now_ns, 0, 0, False
        self.unsent = memoryview(request)
        self.request_bytes = len(request)

    def write(self) -> None:
        """Write as much as the kernel takes."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except NOT_NOW:
            return

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)

    def on_message_complete(self) -> None:
        self.over = self.parser.get_status_code() >= 200
        self.keeps = self.parser.should_keep_alive()  # which the parser only knows here

    def is_idle(self) -> bool:
        """Whether the other side neither closed the connection nor sent anything unasked."""
        return not select.select([self.socket], [], [], 0)[0]

    def upload_ms(self) -> float | None:
        """The time of a large request on the link; None for another one, or if unknown."""
        return tcp_info.upload_ms(self.socket, self.request_bytes) if self.request_bytes >= LARGE_BYTES else None


def exchange(
    lines: Sequence[Line], requests: Sequence[bytes], gap_ms: float, timeout_s: float, clock: Clock
) -> list[Answer]:
    """Send each request on its line, ``gap_ms`` after the one before, and wait for all answers.

    A connection that the server does not keep is closed as soon as its answer is there.
    """
    answers: dict[Line, Answer] = {}
    begun_ns = clock()
    due_ns = [begun_ns + round(number * gap_ms * NS_PER_MS) for number in range(len(lines))]
    end_ns = due_ns[-1] + round(timeout_s * 1e9)
    sent = 0
    with selectors.DefaultSelector() as selector:
        while len(answers) < len(lines) and (now_ns := clock()) < end_ns:
            while sent < len(lines) and due_ns[sent] <= now_ns:
                line = lines[sent]
                line.socket.setblocking(False)
                line.begin(requests[sent], clock())
                selector.register(line.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, line)
                sent += 1
            until_ns = due_ns[sent] if sent < len(lines) else end_ns
            for key, events in selector.select(max((until_ns - clock()) / 1e9, 0)):
                found = _look(selector, key.data, events, clock)
                if found is not None:
                    answers[key.data] = found
                    selector.unregister(key.fileobj)
                    if not found.kept:
                        key.data.socket.close()  # a worker of the server may wait for that before it takes the next one
    lost = Answer(0, timeout_s * 1e3, 0.0, 0, kept=False)
    return [answers.get(line, lost) for line in lines]


def _look(selector: selectors.BaseSelector, line: Line, events: int, clock: Clock) -> Answer | None:
    try:
        if events & selectors.EVENT_WRITE:
            line.write()
            if not line.unsent:
                selector.modify(line.socket, selectors.EVENT_READ, line)
        return _read(line, clock) if events & selectors.EVENT_READ else None
    except OSError:
        return Answer(0, (clock() - line.sent_ns) / NS_PER_MS, 0.0, 0, kept=False)


def _read(line: Line, clock: Clock) -> Answer | None:
    """Read what has come. Returns the answer when it is complete, or when the connection has ended."""
    while True:
        try:
            data = line.socket.recv(READ_BYTES)
        except NOT_NOW:
            return None
        now_ns = clock()
        line.first_ns = line.first_ns or now_ns
        ms, reading_ms = (now_ns - line.sent_ns) / NS_PER_MS, (now_ns - line.first_ns) / NS_PER_MS
        try:
            line.parser.feed_data(data)
            status = line.parser.get_status_code()
        except HttpParserError:
            return Answer(0, ms, reading_ms, line.body_bytes, kept=False)
        if not data:
            # A body without a length ends with the connection.
            return Answer(status if line.first_ns != now_ns else 0, ms, reading_ms, line.body_bytes, kept=False)
        if line.over:
            kept = line.keeps and not line.unsent
            return Answer(status, ms, reading_ms, line.body_bytes, kept, line.upload_ms())
