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
from io import BytesIO
from time import perf_counter_ns
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import MalformedInput, ServerFull, SlipwayError, SlowRequest, UnsupportedVersion
from ..protocols import JSON, NO_HEADERS, Handler, Responder
from ..protocols.failure import given_id, send_failure
from ..protocols.responder import Source
from ..request import Head, Headers, InferRequest
from .half_closed import ColdTransport, HalfClosed, close_after_reading
from .hot import HotPath
from .limits import (
    MAX_HEADERS,
    MAX_URL_BYTES,
    PIPELINED_BYTES,
    SMALL_BODY_BYTES,
    ConnectionAccount,
    body_too_large,
    content_length,
    count_error,
)
from .streams import ChunkedOutlet
from .upgrade import without_upgrade

log = logging.getLogger("slipway.http")
access = logging.getLogger("slipway.access")

PIPELINED = 32
"""Complete requests of one connection that may wait behind another; beyond it the socket is not read."""

LEAST_BYTES_PER_S = 500
"""A body that arrives more slowly than this, over ``read_timeout_s``, is refused."""

UNWRITABLE = b'{"error":"the server failed to write the response; its log has the details","code":"internal"}'
"""The body where even an error could not be written."""

JOINED_BYTES = 1_000_000
"""Size of a body from which its chunks are joined as they arrive."""

JOINED_CHUNKS = 1_024
"""Parts of a body that are kept apart; more are joined, because each costs far more than a few bytes."""

UNLOGGED = frozenset((b"/ping", b"/metrics"))
CHECKED = frozenset((b"host", b"transfer-encoding", b"expect"))


class StopParsingError(Exception):
    """Ends the parsing of a connection that has been refused."""


class HotProtocol(HttpToolsProtocol):
    """One connection, which is also the responder of its hot requests."""

    def __init__(self, hot: HotPath, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Connection
        self._hot = hot
        self._table = hot.table
        self._account = ConnectionAccount(hot.account, hot.max_head_bytes, hot.max_body_bytes)
        self._waiting: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()  # pipelined requests
        self._advancing = False  # a loop over them is running
        self._refused = False  # nothing more is read
        self._half_closed = False  # the client has sent its last byte
        self._last_ns = perf_counter_ns()  # of the last response
        self._read_timer: Any = None
        self._idle_timer: Any = None
        # Request that is being received
        self.headers: Headers = []
        self._receiving = False
        self._handler: Handler | None = None  # None where it is cold
        self._fields: Headers | None = None  # of its head; None while that is being received
        self._version = "1.1"
        self._hosted = False
        self._chunked = False
        self._chunks: list[bytes] = []
        self._joined: BytesIO | None = None  # the body before these chunks, if it is large or came in very many
        self._timed_size = 0  # size of the body when the read timer was started
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
        if not self._hot.connections.admit(self):
            self._refuse(ServerFull("the server has as many connections as it may; retry later"))
            return
        self._idle_timer = self.loop.call_later(self._hot.keep_alive_s, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._hot.connections.leave(self)
        if self._pending is not None:
            self._pending.abandoned = True
            self._release_at_end(self._pending)
            self._pending = None
        if self._stream is not None:
            self._stream.lost()
            self._stream = None
        self._forget()
        for timer in (self._read_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        account = self._account
        account.chunk_at = received = account.received
        account.received = received + len(data)
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
            self._read_unfinished()
        elif self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        if self._waiting or account.held_bytes:
            account.hold(self._receiving and not self._refused)

    def eof_received(self) -> bool:  # type: ignore[override]  # the parent always closes
        """The client has sent its last byte. Returns True if a response is due, which it may still read."""
        if not (self._active or self._waiting) or self.transport.get_extra_info("sslcontext") is not None:
            return False  # a TLS connection has no half-closed state
        watch = HalfClosed(self.transport, self.loop, self._may_probe)
        if watch.has_left():
            return False
        watch.look_after()
        self._half_closed = True
        self._receiving = False
        self._account.hold(receiving=False)
        return True

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
        if self.headers:
            self.headers = []
        self.expect_100_continue = False
        self._handler = None
        self._fields = None
        self._hosted = self._chunked = False
        self._receiving = True
        account = self._account
        account.begun_at = account.chunk_at
        account.size = 0
        self._begun_ns = perf_counter_ns()
        if self._read_timer is not None:  # of the request before this one, which was complete in time
            self._read_timer.cancel()
            self._read_timer = None

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in CHECKED and self._fields is None:
            self._check_field(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the request is parsed again without that header
        self._version = version = self.parser.get_http_version()
        if version != "1.1":
            self._check_version(version)
        if len(self.headers) > MAX_HEADERS:
            self._refuse_if(count_error(self.headers))
        account = self._account
        if account.received - account.begun_at > account.max_head_bytes:  # else it cannot be too long
            self._refuse_if(account.head_error(self.url, self.headers))
        methods = self._table.get(self.url)
        if methods is not None:
            self._handler = methods.get(self.parser.get_method())
        if self._handler is None:
            self._refuse_if(account.url_error(self.url))
            self._begin_cold()
        self._fields = self.headers
        self.headers = []  # the parser appends trailers, which are ignored
        if self._handler is None:
            return
        if self.expect_100_continue:
            self._invite_body()

    def on_body(self, body: bytes) -> None:
        account = self._account
        account.size += len(body)
        if account.size > self._hot.max_body_bytes:
            self._refuse_if(body_too_large(self._hot.max_body_bytes))
        if self._handler is None:
            super().on_body(body)
        else:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        self._receiving = False
        account = self._account
        account.completed_at = account.chunk_at
        if self._handler is None:
            if not self.parser.should_upgrade():
                self._hold_large(account.size)
                super().on_message_complete()
            return
        chunks = self._chunks
        if self._joined is not None:
            self._join()
            body, self._joined = self._joined.getvalue(), None  # without a copy: nobody else has the file
        else:
            body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            self._chunks = []
        fields = self._fields
        assert fields is not None
        head = Head(self.parser.get_method(), self.url, fields, self._begun_ns, perf_counter_ns())
        keep_alive = self.parser.should_keep_alive() and self._version != "1.0"
        if self._active or self.flow.write_paused:
            self._queue(account.size, self._start, self._handler, head, body, keep_alive)
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
                if len(body) <= SMALL_BODY_BYTES:
                    transport.write(self._hot.heads.whole(status, content_type, body, headers, close))
                else:
                    transport.write(self._hot.heads.head(status, content_type, len(body), headers, close))
                    transport.write(body)
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
        if self._account.active_bytes:
            self._account.active_bytes = 0
            self._account.hold(self._receiving)
        if self._waiting or self.flow.read_paused:
            self._advance()
        if self._half_closed:
            self._close_half()

    # Called by timers

    def _read_expired(self) -> None:
        """Refuse a request whose head is not complete, or whose body arrives too slowly."""
        self._read_timer = None
        if not self._receiving:
            return
        seconds = self._hot.read_timeout_s
        enough = self._account.size - self._timed_size >= LEAST_BYTES_PER_S * seconds
        if enough or self.flow.read_paused:  # a paused client cannot send
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

    # Called by the limit on connections, and by the watch of a half-closed connection

    def _may_probe(self) -> bool:
        """Whether an interim response may be sent: nothing of the active response has been, and it is not HTTP/1.0."""
        begun = self._stream is not None or (self.cycle is not None and self.cycle.response_started)
        return self._version != "1.0" and not begun

    def idle_ns(self) -> int:
        """Nanoseconds since its last response, or since a head began that is not complete; 0 while it has a request."""
        if self._active or self._waiting or self.flow.write_paused:
            return 0
        if self._receiving:
            return 0 if self._fields is not None else perf_counter_ns() - self._begun_ns
        return perf_counter_ns() - self._last_ns

    def close_idle(self) -> None:
        self.transport.close()

    # Called by the parent class, for cold requests

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._last_ns = perf_counter_ns()
        self._active = False
        self._account.active_bytes = 0
        self._account.hold(self._receiving)
        self._advance()
        if self._half_closed:
            self._close_half()

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedInput(msg))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if self._active or self.flow.write_paused:
            self._queue(0, self._start_cold, cycle, app)  # its body is not read meanwhile
        else:
            self._start_cold(cycle, app)

    # The order of requests

    def _start(self, handler: Handler, head: Head, body: bytes, keep_alive: bool) -> None:
        self._active = True
        self._keep_alive = keep_alive
        self._head = head
        if len(body) > SMALL_BODY_BYTES:
            self._hold_large(len(body))
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

    def _queue(self, size: int, start: Callable[..., None], *args: Any) -> None:
        """Let a request of ``size`` bytes wait behind the active one."""
        self._waiting.append((size, start, args))
        self._account.waiting_bytes += size
        if len(self._waiting) >= PIPELINED or self._account.waiting_bytes > PIPELINED_BYTES:
            self.flow.pause_reading()

    def _advance(self) -> None:
        """Start the next pipelined request. A loop and not a recursion: handlers may respond at once."""
        if self._advancing:
            return
        self._advancing = True
        while self._waiting and not self._active and not self.flow.write_paused:
            size, start, args = self._waiting.popleft()
            self._account.waiting_bytes -= size
            start(*args)
        self._advancing = False
        self._account.hold(self._receiving)
        few = len(self._waiting) < PIPELINED and self._account.waiting_bytes <= PIPELINED_BYTES
        if few and not self._half_closed:
            self.flow.resume_reading()

    def _end(self, transport: Any) -> None:
        """Close after the last response. A client that is still sending gets time to read it."""
        self._forget()
        if self._refused and self._receiving:
            close_after_reading(transport, self.loop)
        else:
            transport.close()

    def _end_cold(self) -> None:
        """Close after the response to a cold request, whose body may not have arrived in full."""
        self._refused = self._refused or self._receiving
        self._end(self.transport)

    def _forget(self) -> None:
        """Drop the pipelined requests and the unfinished one of a connection that ends."""
        self._waiting.clear()
        self._chunks = []
        self._joined = None
        self._account.waiting_bytes = self._account.active_bytes = self._account.size = 0
        self._account.hold(receiving=False)

    def _hold_large(self, size: int) -> None:
        """Count a large body until its response is sent."""
        if size > SMALL_BODY_BYTES:
            self._account.active_bytes += size
            self._account.hold(self._receiving)

    def _close_half(self) -> None:
        """Close after the last response to a client that sends nothing more."""
        if not (self._active or self._waiting or self.transport.is_closing()):
            self.transport.close()

    def _release_at_end(self, pending: InferRequest) -> None:
        """Hold the large body of a request whose client has left, until the request has ended."""
        held_bytes, self._account.active_bytes = self._account.active_bytes, 0
        if not held_bytes or pending.ended:
            return
        process, done = self._hot.account, pending.done
        process.move(held_bytes)

        def release(request: InferRequest) -> None:
            process.move(-held_bytes)
            done(request)

        pending.done = release

    # Reading

    def _read_unfinished(self) -> None:
        """A chunk has ended within a request: check what has arrived of it."""
        if self._refused:
            return
        account = self._account
        account.read_on()
        if self._fields is None:
            error = account.unfinished_head_error(self.url, self.headers)
        else:
            if account.announced is None:
                account.announced = content_length(self._fields)
            error = account.unfinished_body_error()
        if error is not None:
            self._refuse(error)
            return
        if account.size > JOINED_BYTES or len(self._chunks) > JOINED_CHUNKS:
            self._join()
        if self._active and account.size + account.waiting_bytes > PIPELINED_BYTES:
            self.flow.pause_reading()  # a request behind a slow one is not read in full
        account.hold(receiving=True)
        if self._read_timer is None:
            self._time_reading()

    def _join(self) -> None:
        """Append the chunks to the joined body. The copy of a large body is made while it arrives: at its end it would
        hold the event loop for long."""
        if self._joined is None:
            self._joined = BytesIO()
        self._joined.writelines(self._chunks)
        self._chunks = []

    def _check_field(self, name: bytes, value: bytes) -> None:
        """Refuse a field that makes the end or the host of a request ambiguous (RFC 9112, 3.2 and 6.1)."""
        if name == b"host":
            if self._hosted:
                self._refuse_if(MalformedInput("the request has two Host fields; send one"))
            self._hosted = True
        elif name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif self._chunked or value.strip().lower() != b"chunked":
            self._refuse_if(MalformedInput("Transfer-Encoding must be chunked; send no other coding"))
        else:
            self._chunked = True

    def _check_version(self, version: str) -> None:
        if version != "1.0":
            self._refuse_if(UnsupportedVersion(f"HTTP/{version} is not served; use HTTP/1.1"))
        if self._chunked:
            self._refuse_if(MalformedInput("HTTP/1.0 has no chunks; send Content-Length, or use HTTP/1.1"))

    def _begin_cold(self) -> None:
        """Give the request that is being received to the parent class, as if it had it from the first byte."""
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expect
        self.cycle = None  # type: ignore[assignment]  # order is kept here, not in the parent's own pipeline
        super().on_headers_complete()
        self.cycle.transport = ColdTransport(self.transport, self._end_cold)  # type: ignore[assignment]

    def _invite_body(self) -> None:
        """``Expect: 100-continue``: invite the body, unless it is known to be too large."""
        if content_length(self._fields or []) > self._hot.max_body_bytes:
            self._refuse_if(body_too_large(self._hot.max_body_bytes))
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _ignore_upgrade(self, rest: bytes) -> bytes:
        """The bytes to parse in place of a request that asks for another protocol; ``rest`` followed its head."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(MalformedInput("this server is no proxy"))
            return b""
        return without_upgrade(method, self.url, self.parser.get_http_version().encode(), self.headers, rest)

    def _time_reading(self) -> None:
        self._timed_size = self._account.size
        self._read_timer = self.loop.call_later(self._hot.read_timeout_s, self._read_expired)

    # Refusals and the log

    def _refuse_if(self, error: SlipwayError | None) -> None:
        """Refuse the request whose head is being parsed, and end the parsing. Raises StopParsingError."""
        if error is not None:
            self._refuse(error)
            raise StopParsingError

    def _refuse(self, error: SlipwayError) -> None:
        """Respond with an error and end the connection: further bytes on it cannot be understood."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._hot.refused[error.code] += 1
        self._handler = None
        self._chunks = []
        self._joined = None
        self._account.size = 0
        self._account.hold(receiving=False)
        self._forsake_cold()
        fields = self.headers if self._fields is None else self._fields
        url, fields = (self.url[:MAX_URL_BYTES], fields) if self._receiving else (b"", [])
        head = Head(b"", url, fields, self._begun_ns if self._receiving else perf_counter_ns())

        def handler(head: Head, _body: bytes, responder: Responder) -> None:
            send_failure(error, head, responder)

        if self._active:
            self._queue(0, self._start, handler, head, b"", False)
        else:
            self._start(handler, head, b"", False)

    def _forsake_cold(self) -> None:
        """Give up a cold request whose body will not be complete; the refusal is sent instead of its response."""
        cycle = self.cycle
        if cycle is None or not cycle.more_body or cycle.response_complete:
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if self._waiting and self._waiting[-1][2][0] is cycle:
            self._waiting.pop()
        else:
            self._active = False

    def _log(self, status: int, size: int) -> None:
        head = self._head
        if head is not None and head.path not in UNLOGGED:
            took_ms = (self._last_ns - head.begun_ns) / 1e6
            line = "%s %s %d %d bytes %.3f ms %s"
            access.info(
                line,
                head.method.decode() or "-",
                head.path.decode("latin-1") or "-",
                status,
                size,
                took_ms,
                ascii(given_id(head))[1:-1],
            )
