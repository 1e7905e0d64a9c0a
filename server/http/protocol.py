"""The hot path: an HTTP/1.1 protocol object that answers the hot routes itself and leaves the rest to ASGI.

It is uvicorn's httptools protocol with one more branch. Where URL and method are in the table, the handler is called
with the head and the body as soon as the body is there, and its reply is written by the handler's own call: no task,
no future, no coroutine, no scope. Every other request goes through the parent class, unchanged. Requests that a client
pipelines are answered in their order, hot and cold mixed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import BodyTooLarge, MalformedInput, SlipwayError, SlowRequest
from ..lifecycle import Lifecycle, Phase
from ..protocols import NO_HEADERS, Handler, Responder
from ..protocols.failure import given_id, send_failure
from ..protocols.responder import Source
from ..request import Head, Headers, InferRequest
from .replies import ReplyHeads
from .streams import ChunkedOutlet

log = logging.getLogger("slipway.http")
access = logging.getLogger("slipway.access")

PIPELINED = 32
"""Complete requests of one connection that may wait for the one before them; then its socket is not read."""

LINGER_S = 2.0
"""How long a refused client may go on sending before its connection is cut; it should have read the refusal by then."""

LEAST_BYTES_PER_S = 500
"""A body that comes slower than this, over ``read_timeout_s``, is not waited for."""

UNLOGGED = frozenset((b"/ping", b"/metrics"))

HotTable = dict[bytes, dict[bytes, Handler]]


@dataclass(slots=True)
class HotPath:
    """What all connections share. ``table``: URL to method to handler; it may change while serving."""

    lifecycle: Lifecycle
    max_body_bytes: int = 30_000_000
    read_timeout_s: float = 30.0
    keep_alive_s: float = 120.0
    access_log: bool = False
    table: HotTable = field(default_factory=dict)
    heads: ReplyHeads = field(default_factory=ReplyHeads)


class HotProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, hot: HotPath, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hot = hot
        self._table = hot.table
        self._handler: Handler | None = None  # of the request that is being received, when it is hot
        self._receiving = False
        self._chunks: list[bytes] = []
        self._size = self._timed_size = 0
        self._begun_ns = self._last_ns = perf_counter_ns()
        self._active = False  # a request is with its handler, or with ASGI
        self._keep_alive = True  # of the active hot request
        self._head: Head | None = None
        self._pending: InferRequest | None = None
        self._stream: ChunkedOutlet | None = None  # the answer that is being sent in pieces
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._advancing = False
        self._refused = False
        self._read_timer: Any = None
        self._idle_timer: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._idle_timer = self.loop.call_later(self._hot.keep_alive_s, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._pending is not None:
            self._pending.abandoned = True
            self._pending = None
        if self._stream is not None:
            self._stream.lost()
            self._stream = None
        self._waiting.clear()
        for timer in (self._read_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as wish:
                data = self._without_upgrade(data[wish.args[0] :])
            except httptools.HttpParserError:
                self._refuse(MalformedInput("this is not a well-formed HTTP/1.1 request"))
                break
        if self._receiving:
            if self._read_timer is None:
                self._time_reading()
        elif self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._handler = None
        self._receiving = True
        self._size = 0
        self._begun_ns = perf_counter_ns()
        if self._read_timer is not None:  # of the request before this one, which was complete in time
            self._read_timer.cancel()
            self._read_timer = None

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # it comes again, without that wish
        methods = self._table.get(self.url)
        if methods is not None:
            self._handler = methods.get(self.parser.get_method())
        if self._handler is None:
            self._begin_cold()
            return
        self._chunks = []
        if self.expect_100_continue:
            self._invite_body()

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._size += len(body)
        if self._size > self._hot.max_body_bytes:
            self._refuse_body()
        elif self._handler is None:
            super().on_body(body)
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        self._receiving = False
        if self._handler is None:
            if not self._refused and not self.parser.should_upgrade():
                super().on_message_complete()
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        head = Head(self.parser.get_method(), self.url, self.headers, self._begun_ns, perf_counter_ns())
        keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        if self._active or self.flow.write_paused:
            self._queue(self._start, self._handler, head, body, keep_alive)
        else:
            self._start(self._handler, head, body, keep_alive)

    def shutdown(self) -> None:
        """The server stops: end now if nothing is under way, else after the answer."""
        if not (self._active or self._waiting or self._receiving):
            self.transport.close()
            return
        self._keep_alive = False
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stream is not None:
            self._last_ns = perf_counter_ns()
            self._stream.resume()
        self._advance()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._last_ns = perf_counter_ns()
        self._active = False
        self._advance()

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedInput(msg))

    def _start(self, handler: Handler, head: Head, body: bytes, keep_alive: bool) -> None:
        self._active = True
        self._keep_alive = keep_alive
        self._head = head
        try:
            pending = handler(head, body, self)
        except Exception:
            log.exception("a handler failed")
            send_failure(SlipwayError("the server failed; its log has the details"), head, self)
            return
        if self._active and self._head is head:
            self._pending = pending

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        """Write the response to the active request; called once, by its handler or later."""
        transport = self.transport
        self._pending = None
        if not transport.is_closing():
            close = not self._keep_alive or self._hot.lifecycle.phase is Phase.DRAINING
            transport.write(self._hot.heads.reply(status, content_type, body, headers, close))
            if close:
                self._end(transport)
        self.server_state.total_requests += 1
        self._last_ns = perf_counter_ns()
        if self._hot.access_log:
            self._log(status, len(body))
        self._active = False
        if self._waiting:
            self._advance()

    def begin_stream(
        self, status: int, content_type: bytes, headers: Headers, source: Source, /
    ) -> ChunkedOutlet | None:
        """Begin the response to the active request in chunks; None for HTTP/1.0, which has no chunks."""
        if self.parser.get_http_version() == "1.0":
            return None
        transport = self.transport
        self._pending = None
        if not transport.is_closing():
            close = not self._keep_alive or self._hot.lifecycle.phase is Phase.DRAINING
            self._keep_alive = not close
            transport.write(self._hot.heads.begin(status, content_type, headers, close))
        self._last_ns = perf_counter_ns()

        def over(size: int, broken: bool) -> None:
            self._stream_over(status, size, broken)

        self._stream = ChunkedOutlet(transport, self.flow, source, over)
        return self._stream

    def _stream_over(self, status: int, size: int, broken: bool) -> None:
        self._stream = None
        if not self.transport.is_closing() and (broken or not self._keep_alive):
            self._end(self.transport)
        self.server_state.total_requests += 1
        self._last_ns = perf_counter_ns()
        if self._hot.access_log:
            self._log(status, size)
        self._active = False
        if self._waiting:
            self._advance()

    def _end(self, transport: Any) -> None:
        """Close after the last reply; a client that is still sending gets time to read why."""
        self._waiting.clear()
        if self._refused and self._receiving and transport.can_write_eof():
            transport.write_eof()
            self.loop.call_later(LINGER_S, transport.close)
        else:
            transport.close()

    def _queue(self, start: Callable[..., None], *args: Any) -> None:
        self._waiting.append((start, args))
        if len(self._waiting) >= PIPELINED:
            self.flow.pause_reading()

    def _advance(self) -> None:
        """Start the next pipelined request. A loop and not a recursion: handlers may reply at once."""
        if self._advancing:
            return
        self._advancing = True
        while self._waiting and not self._active and not self.flow.write_paused:
            start, args = self._waiting.popleft()
            start(*args)
        self._advancing = False
        if len(self._waiting) < PIPELINED:
            self.flow.resume_reading()

    def _begin_cold(self) -> None:
        """Give the request that is being received to the parent class, as if it had been its from the first byte."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expect
        self.cycle = None  # type: ignore[assignment]  # order is kept here, not in the parent's own pipeline
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if self._active or self.flow.write_paused:
            self._queue(self._start_cold, cycle, app)
        else:
            self._start_cold(cycle, app)

    def _start_cold(self, cycle: Any, app: Any) -> None:
        self._active = True
        if self._hot.lifecycle.phase is Phase.DRAINING:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    def _invite_body(self) -> None:
        """``Expect: 100-continue``: ask for the body, unless it is known to be too large."""
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit() and int(value) > self._hot.max_body_bytes:
                self._refuse_body()
                return
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse_body(self) -> None:
        limit = self._hot.max_body_bytes / 1e6
        self._refuse(BodyTooLarge(f"the body is larger than {limit:g} MB, the limit that the server was started with"))

    def _refuse(self, error: SlipwayError) -> None:
        """Answer with an error and end the connection: what follows on it cannot be understood any more."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._handler = None
        self._chunks = []
        self._forsake_cold()
        head = Head(b"", self.url, self.headers) if self._receiving else Head(b"", b"", [])

        def handler(head: Head, _body: bytes, responder: Responder) -> None:
            send_failure(error, head, responder)

        if self._active:
            self._queue(self._start, handler, head, b"", False)
        else:
            self._start(handler, head, b"", False)

    def _forsake_cold(self) -> None:
        """A cold request whose body will not be complete: its place in the order is the refusal's."""
        cycle = self.cycle
        if cycle is None or not cycle.more_body or cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if self._waiting and self._waiting[-1][1][0] is cycle:
            self._waiting.pop()
        else:
            self._active = False

    def _without_upgrade(self, rest: bytes) -> bytes:
        """The request that has just been parsed, without its wish for another protocol, and what followed its head.

        No other protocol is spoken here, so the wish is ignored (RFC 9110, 7.8). But the parser ends such a request
        after its head, and some clients send the wish with every first request of a connection, body or not.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(MalformedInput("this server is no proxy"))
            return b""
        version = self.parser.get_http_version().encode()
        head = b"%b %b HTTP/%b\r\n" % (method, self.url, version)
        fields = b"".join(b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade")
        return b"%b%b\r\n%b" % (head, fields, rest)

    def _time_reading(self) -> None:
        self._timed_size = self._size
        self._read_timer = self.loop.call_later(self._hot.read_timeout_s, self._read_expired)

    def _read_expired(self) -> None:
        """A body may take as long as it likes while it comes; a head, or one that only drips, may not."""
        self._read_timer = None
        if not self._receiving:
            return
        seconds = self._hot.read_timeout_s
        if self._size - self._timed_size >= LEAST_BYTES_PER_S * seconds:
            self._time_reading()
            return
        self._refuse(
            SlowRequest(f"the request was not complete after {seconds:g} s with less than {LEAST_BYTES_PER_S} bytes/s")
        )

    def _close_if_idle(self) -> None:
        idle_s = (perf_counter_ns() - self._last_ns) / 1e9
        left_s = self._hot.keep_alive_s - idle_s
        busy = self._active or self._receiving
        if left_s <= 0 and self.flow.write_paused:
            self.transport.abort()  # its client does not read: closing would wait for it for ever
        elif left_s <= 0 and not busy:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(self._hot.keep_alive_s if busy else left_s, self._close_if_idle)

    def _log(self, status: int, size: int) -> None:
        head = self._head
        if head is not None and head.path not in UNLOGGED:
            took_ms = (self._last_ns - head.begun_ns) / 1e6
            line = "%s %s %d %d bytes %.3f ms %s"
            access.info(
                line, head.method.decode(), head.path.decode(), status, size, took_ms, ascii(given_id(head))[1:-1]
            )
