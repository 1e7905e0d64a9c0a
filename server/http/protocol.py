"""The hot path: an HTTP/1.1 protocol object that answers the hot routes itself and leaves the rest to ASGI.

It is uvicorn's httptools protocol with one more branch. Where URL and method are in the table, the handler is called
with head and body as soon as the body is complete, and its response is written by the handler's own call: no task, no
future, no coroutine, no scope. Every other request goes through the parent class, unchanged. Pipelined requests are
answered in order, hot and cold mixed.

The file is longer than 300 lines because the class is one state machine: parser, handlers and timers change one state.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import BodyTooLarge, MalformedInput, SlipwayError, SlowRequest
from ..protocols import JSON, NO_HEADERS, Handler, Responder
from ..protocols.failure import given_id, send_failure
from ..protocols.responder import Source
from ..request import Head, Headers, InferRequest
from .hot import HotPath
from .streams import ChunkedOutlet
from .upgrade import without_upgrade

log = logging.getLogger("slipway.http")
access = logging.getLogger("slipway.access")

PIPELINED = 32
"""Complete requests of one connection that may wait behind another; beyond it the socket is not read."""

LINGER_S = 2.0
"""How long a refused client may go on sending before its connection is closed, so that it can read the refusal."""

LEAST_BYTES_PER_S = 500
"""A body that arrives more slowly than this, over ``read_timeout_s``, is refused."""

UNWRITABLE = b'{"error":"the server failed to write the response; its log has the details","code":"internal"}'

UNLOGGED = frozenset((b"/ping", b"/metrics"))


class HotProtocol(HttpToolsProtocol):
    """One connection, which is also the responder of its hot requests."""

    def __init__(self, hot: HotPath, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Connection
        self._hot = hot
        self._table = hot.table
        self._waiting: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()  # pipelined requests
        self._advancing = False  # a loop over them is running
        self._refused = False  # nothing more is read
        self._last_ns = perf_counter_ns()  # of the last response
        self._read_timer: Any = None
        self._idle_timer: Any = None
        # Request that is being received
        self._receiving = False
        self._handler: Handler | None = None  # None where it is cold
        self._chunks: list[bytes] = []
        self._size = 0
        self._timed_size = 0  # its size when the read timer was started
        self._begun_ns = self._last_ns
        # Response that is being prepared or sent
        self._active = False  # a request is with its handler, or with ASGI
        self._head: Head | None = None
        self._keep_alive = True
        self._pending: InferRequest | None = None
        self._stream: ChunkedOutlet | None = None

    # Called by the transport and the server

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
                data = self._ignore_upgrade(data[wish.args[0] :])
            except httptools.HttpParserError:
                self._refuse(MalformedInput("this is not a well-formed HTTP/1.1 request"))
                break
        if self._receiving:
            if self._read_timer is None:
                self._time_reading()
        elif self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stream is not None:
            self._last_ns = perf_counter_ns()
            self._stream.resume()
        self._advance()

    def shutdown(self) -> None:
        """The server stops: close now if no request is under way, else after the response."""
        if not (self._active or self._waiting or self._receiving):
            self.transport.close()
            return
        self._keep_alive = False
        if self.cycle is not None:
            self.cycle.keep_alive = False

    # Called by the parser

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
            return  # the request is parsed again without that header
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

    # Called by handlers, and by the streams that they begin

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        """Write the response to the active request; called once, by its handler or later. Raises nothing: a response
        that cannot be written becomes an error, or closes the connection."""
        transport = self.transport
        self._pending = None
        if not transport.is_closing():
            close = not self._keep_alive or self._hot.draining
            try:
                transport.write(self._hot.heads.whole(status, content_type, body, headers, close))
            except Exception:
                log.exception("writing a response failed status=%s", status)
                status, body = 500, UNWRITABLE
                transport.write(self._hot.heads.whole(status, JSON, body, NO_HEADERS, True))
                close = True
            if close:
                self._end(transport)
        self._response_over(status, len(body))

    def begin_stream(
        self, status: int, content_type: bytes, headers: Headers, source: Source, /
    ) -> ChunkedOutlet | None:
        """Begin the response to the active request in chunks; None for HTTP/1.0, which has no chunks."""
        if self.parser is not None and self.parser.get_http_version() == "1.0":  # None: the client has left
            return None
        transport = self.transport
        self._pending = None
        if not transport.is_closing():
            close = not self._keep_alive or self._hot.draining
            self._keep_alive = not close
            transport.write(self._hot.heads.begin(status, content_type, headers, close))
        self._last_ns = perf_counter_ns()

        def over(size: int, broken: bool) -> None:
            self._stream = None
            if not transport.is_closing() and (broken or not self._keep_alive):
                self._end(transport)
            self._response_over(status, size)

        self._stream = ChunkedOutlet(transport, self.flow, source, over)
        return self._stream

    def _response_over(self, status: int, size: int) -> None:
        """The active request has its response, of ``size`` bytes: the next pipelined one may start."""
        self.server_state.total_requests += 1
        self._last_ns = perf_counter_ns()
        if self._hot.access_log:
            self._log(status, size)
        self._active = False
        if self._waiting:
            self._advance()

    # Called by timers

    def _read_expired(self) -> None:
        """Refuse a request whose head is not complete, or whose body arrives too slowly."""
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
            self.transport.abort()  # its client does not read: close would wait for ever for the last bytes to leave
        elif left_s <= 0 and not busy:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(self._hot.keep_alive_s if busy else left_s, self._close_if_idle)

    # Called by the parent class, for cold requests

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._last_ns = perf_counter_ns()
        self._active = False
        self._advance()

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedInput(msg))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if self._active or self.flow.write_paused:
            self._queue(self._start_cold, cycle, app)
        else:
            self._start_cold(cycle, app)

    # The order of requests

    def _start(self, handler: Handler, head: Head, body: bytes, keep_alive: bool) -> None:
        self._active = True
        self._keep_alive = keep_alive
        self._head = head
        try:
            pending = handler(head, body, self)
        except Exception:
            log.exception("a handler failed path=%s", head.path)
            if self._active and self._head is head and self._stream is None:  # it has not responded
                send_failure(SlipwayError("the server failed; its log has the details"), head, self)
            return
        if self._active and self._head is head:
            self._pending = pending

    def _start_cold(self, cycle: Any, app: Any) -> None:
        self._active = True
        if self._hot.draining:
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    def _queue(self, start: Callable[..., None], *args: Any) -> None:
        self._waiting.append((start, args))
        if len(self._waiting) >= PIPELINED:
            self.flow.pause_reading()

    def _advance(self) -> None:
        """Start the next pipelined request. A loop and not a recursion: handlers may respond at once."""
        if self._advancing:
            return
        self._advancing = True
        while self._waiting and not self._active and not self.flow.write_paused:
            start, args = self._waiting.popleft()
            start(*args)
        self._advancing = False
        if len(self._waiting) < PIPELINED:
            self.flow.resume_reading()

    def _end(self, transport: Any) -> None:
        """Close after the last response. A client that is still sending gets time to read it."""
        self._waiting.clear()
        if self._refused and self._receiving and transport.can_write_eof():
            transport.write_eof()
            self.loop.call_later(LINGER_S, transport.close)
        else:
            transport.close()

    # Reading

    def _begin_cold(self) -> None:
        """Give the request that is being received to the parent class, as if it had it from the first byte."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expect
        self.cycle = None  # type: ignore[assignment]  # order is kept here, not in the parent's own pipeline
        super().on_headers_complete()

    def _invite_body(self) -> None:
        """``Expect: 100-continue``: invite the body, unless it is known to be too large."""
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit() and int(value) > self._hot.max_body_bytes:
                self._refuse_body()
                return
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _ignore_upgrade(self, rest: bytes) -> bytes:
        """The bytes to parse in place of a request that asks for another protocol; ``rest`` followed its head."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(MalformedInput("this server is no proxy"))
            return b""
        return without_upgrade(method, self.url, self.parser.get_http_version().encode(), self.headers, rest)

    def _time_reading(self) -> None:
        self._timed_size = self._size
        self._read_timer = self.loop.call_later(self._hot.read_timeout_s, self._read_expired)

    # Refusals and the log

    def _refuse_body(self) -> None:
        limit = self._hot.max_body_bytes / 1e6
        self._refuse(BodyTooLarge(f"the body is larger than {limit:g} MB, the limit that the server was started with"))

    def _refuse(self, error: SlipwayError) -> None:
        """Respond with an error and end the connection: further bytes on it cannot be understood."""
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
        """Give up a cold request whose body will not be complete; the refusal is sent instead of its response."""
        cycle = self.cycle
        if cycle is None or not cycle.more_body or cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if self._waiting and self._waiting[-1][1][0] is cycle:
            self._waiting.pop()
        else:
            self._active = False

    def _log(self, status: int, size: int) -> None:
        head = self._head
        if head is not None and head.path not in UNLOGGED:
            took_ms = (self._last_ns - head.begun_ns) / 1e6
            line = "%s %s %d %d bytes %.3f ms %s"
            access.info(
                line, head.method.decode(), head.path.decode(), status, size, took_ms, ascii(given_id(head))[1:-1]
            )
