"""A connection: HTTP/1.1 over one socket, one request at a time, with the instant of each event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from . import tcp_info
from .measurements import Ending, Outcome, Request
from .server_timing import NOTHING, Carrier

MAX_DETAIL_BYTES = 4096
Clock = Callable[[], int]


class Owner(Protocol):
    """The pool that a connection belongs to."""

    def opened(self, connection: Connection) -> None:
        """The connection can take a request."""

    def ended(self, connection: Connection, request: Request, ending: Ending, last_byte_ns: int) -> None:
        """The request is over. The connection can take another one if ``connection.usable``."""

    def closed(self, connection: Connection) -> None:
        """The connection is closed; called once, after ``ended`` for a request that was in flight on it."""


class Connection(asyncio.Protocol):
    """Writes the bytes of a request and reads one response to it.

    The parser's callbacks (``on_*``) only record, and ``data_received`` acts after the parser has returned. Otherwise
    the next request would be sent from inside the parser, and surplus bytes would count as its response.
    """

    def __init__(self, owner: Owner, carrier: Carrier, clock: Clock) -> None:
        self.usable = False
        self._owner = owner
        self._carrier = carrier
        self._timing_header = carrier.response_header
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._request: Request | None = None
        self._reset()

    def _reset(self) -> None:
        self._answer: Ending | None = None
        self._keep_alive = False
        self._surplus = False
        self._delimited = False
        self._headers_seen = False
        self._is_page = False
        self._status = 0
        self._bytes_in = 0
        self._timing_value = b""
        self._detail = b""

    def send(self, request: Request) -> None:
        """Write the request now. Call it only while ``usable`` and without a request in flight."""
        transport = self._transport
        assert transport is not None
        assert self._request is None
        self._request = request
        request.send_ns = self._clock()
        transport.write(request.wire)
        if transport.get_write_buffer_size() == 0:
            request.sent_ns = self._clock()

    def abort(self) -> None:
        """Close the connection at once and drop its request without a row."""
        self.usable = False
        self._request = None
        if self._transport is not None:
            self._transport.abort()

    def resent(self) -> int | None:
        """TCP segments that this connection sent again; None where the kernel does not tell."""
        found = self._transport.get_extra_info("socket") if self._transport is not None else None
        return None if found is None else tcp_info.resent(found)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # With a limit of 0, resume_writing marks the instant at which the kernel has taken a large body whole.
        self._transport.set_write_buffer_limits(high=0)
        self.usable = True
        self._owner.opened(self)

    def resume_writing(self) -> None:
        if self._request is not None:
            self._request.sent_ns = self._clock()

    def data_received(self, data: bytes) -> None:
        now_ns = self._clock()
        request = self._request
        if request is None:
            self.abort()  # no request is in flight
            return
        if request.first_byte_ns < 0:
            request.first_byte_ns = now_ns
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            ending = self._answer or self._broken(f"the response is not HTTP/1.1: {error}")
            self._end(request, ending, now_ns, keep=False)
            return
        if self._answer is not None:
            self._end(request, self._answer, now_ns, keep=self._keep_alive and not self._surplus)

    def connection_lost(self, exc: Exception | None) -> None:
        now_ns = self._clock()
        self.usable = False
        request = self._request
        if request is not None:
            if self._headers_seen and not self._delimited:
                ending = self._answered()  # a body without a length ends with the connection
            elif request.first_byte_ns >= 0:
                ending = self._broken("the connection closed in the middle of the response")
            else:
                why = str(exc) if exc is not None else "the server closed the connection before the response"
                ending = Ending(Outcome.CONNECTION, detail=why.encode())
            self._end(request, ending, now_ns, keep=False)
        self._owner.closed(self)

    def on_message_begin(self) -> None:
        self._surplus = self._answer is not None

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        if key == self._timing_header:
            self._timing_value = value
        elif key in (b"content-length", b"transfer-encoding"):
            self._delimited = True
        elif key == b"content-type":
            self._is_page = value.lower().startswith(b"text/html")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._headers_seen = True

    def on_body(self, body: bytes) -> None:
        self._bytes_in += len(body)
        if (self._status >= 300 or self._is_page) and len(self._detail) < MAX_DETAIL_BYTES:
            self._detail += body[: MAX_DETAIL_BYTES - len(self._detail)]

    def on_message_complete(self) -> None:
        if self._status < 200:
            self._reset()  # an interim response (100 Continue, 103 Early Hints): the final one follows
        else:
            # Both are read now: surplus bytes would change the first, and the parser resets the second on return.
            self._answer = self._answer or self._answered()
            self._keep_alive = self._parser.should_keep_alive()

    def _answered(self) -> Ending:
        outcome = Outcome.OK if 200 <= self._status < 300 else Outcome.STATUS
        if self._is_page and outcome == Outcome.OK and self._request is not None and self._request.bytes_out:
            outcome = Outcome.HTML
        timing = self._carrier.read(self._timing_value) if self._timing_value else NOTHING
        return Ending(outcome, self._status, self._bytes_in, timing, self._detail)

    def _broken(self, why: str) -> Ending:
        return Ending(Outcome.TRUNCATED, self._status, self._bytes_in, detail=why.encode())

    def _end(self, request: Request, ending: Ending, now_ns: int, keep: bool) -> None:
        if request.sent_ns < 0:
            keep = False  # answered before the body was sent whole: its rest is still to be sent
        self._request = None
        self._reset()
        if not keep:
            self.usable = False
            if self._transport is not None:
                self._transport.close()
        self._owner.ended(self, request, ending, now_ns)
