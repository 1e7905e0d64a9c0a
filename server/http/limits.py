"""The limits on what is received: accounts of received bytes for each connection and for the process.

The objects decide and do no IO. A connection counts its bytes with one addition for each chunk that it reads. The
checks run only where a request is larger than one chunk or than the limit of a head.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from ..errors import BodyTooLarge, HeadTooLarge, ServerFull, SlipwayError, UrlTooLong
from ..request import Headers

MAX_HEADERS = 100
"""Header fields of one request."""

MAX_URL_BYTES = 8_192
"""Bytes of a URL, or the limit of the head if that is smaller. RFC 9110, 4.1 recommends at least 8,000."""

FIELD_BYTES = 4
"""Bytes of a header line beside its name and value: colon, space and line end."""

PIPELINED_BYTES = 1_000_000
"""Bytes of requests that may wait behind another request of their connection; beyond it the socket is not read."""

FRAMING_BYTES = 262_144
"""Bytes of chunk sizes, extensions and trailers that a body may have beside as many as its own size. Chunks of a few
bytes cost far more processor time than the bytes that they carry."""

SMALL_BODY_BYTES = 65_536
"""Bodies up to this size are decoded at once and freed; larger ones may wait for another thread, and count until their
response is sent."""

IDLE_NS = 1_000_000_000
"""A connection that has been idle for so long may be closed in favour of a new one."""

EXAMINED = 16
"""Connections that are examined for an idle one when a new one exceeds the limit."""


class ProcessAccount:
    """Received bytes that all connections hold.

    They belong to unfinished requests, to requests that wait behind another one of their connection, and to large
    bodies whose response is not sent."""

    __slots__ = ("held_bytes", "limit_bytes", "peak_bytes", "refused")

    def __init__(self, limit_bytes: int = 256_000_000) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.peak_bytes = 0
        self.refused = 0
        """Bodies that were refused because the limit was reached."""

    def move(self, change_bytes: int) -> None:
        """Add what a connection holds more, or less, than before."""
        self.held_bytes += change_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def full(self, more_bytes: int) -> bool:
        """Whether ``more_bytes`` would exceed the limit."""
        return self.held_bytes + more_bytes > self.limit_bytes


class ConnectionAccount:
    """Received bytes of one connection.

    ``received`` counts all bytes, up to the end of the chunk that is parsed; ``chunk_at`` is its value before that
    chunk. ``begun_at`` and ``completed_at`` are ``chunk_at`` when a request last began, and was last complete. ``size``
    counts the body of the request that is being received. The connection sets these, without calls, for speed.
    """

    __slots__ = (
        *("_max_body_bytes", "_process", "_seen_size", "_unseen", "active_bytes", "announced", "begun_at", "chunk_at"),
        *("completed_at", "held_bytes", "max_head_bytes", "received", "size", "start_at", "waiting_bytes"),
    )

    def __init__(self, process: ProcessAccount, max_head_bytes: int, max_body_bytes: int) -> None:
        self._process = process
        self.max_head_bytes = max_head_bytes
        self._max_body_bytes = max_body_bytes
        self.received = 0
        self.chunk_at = 0
        self.held_bytes = 0
        self.waiting_bytes = 0  # of requests that wait behind another one
        self.active_bytes = 0  # of the large body of the request that is being answered
        # Request that is being received
        self.begun_at = 0
        self.completed_at = -1
        self.size = 0
        self.start_at = 0  # ``received`` at its first byte, or later by less than a chunk
        self.announced: int | None = None  # its Content-Length, once it has been looked for
        self._seen_size = 0
        self._unseen = 0  # bytes since the last chunk that held a part of the body

    def read_on(self) -> None:
        """A chunk has ended within a request; called before the checks of an unfinished one."""
        if self.begun_at == self.chunk_at:  # it began in this chunk, perhaps behind another one
            self.start_at = self.received if self.completed_at == self.chunk_at else self.chunk_at
            self.announced = None
            self._seen_size = self._unseen = 0

    def head_error(self, url: bytes, headers: Headers) -> SlipwayError | None:
        """The refusal of a complete head; None if it is within the limits."""
        size = len(url) + sum(len(name) + len(value) + FIELD_BYTES for name, value in headers)
        if size > self.max_head_bytes:
            return self._too_long(url, headers)
        return self.url_error(url)

    def unfinished_head_error(self, url: bytes, headers: Headers) -> SlipwayError | None:
        """The refusal of a head whose end has not arrived; None if it is within the limits."""
        if self.received - self.start_at > self.max_head_bytes:
            return self._too_long(url, headers)
        return None

    def url_error(self, url: bytes) -> SlipwayError | None:
        """The refusal of a URL; None if it is within the limit."""
        limit = min(MAX_URL_BYTES, self.max_head_bytes)
        if len(url) <= limit:
            return None
        return UrlTooLong(f"the URL is longer than {limit} bytes; send values in the body")

    def unfinished_body_error(self) -> SlipwayError | None:
        """The refusal of a body of which a part has arrived; None if it is within the limits.

        Chunk sizes, chunk extensions and trailers are counted: all together may be a little larger than the body up to
        now, and between two parts of the body about as large as a head.
        """
        announced = self.announced or 0
        size = max(announced, self.size)
        if size > self._max_body_bytes:
            return body_too_large(self._max_body_bytes)
        if self._process.full(size + self.waiting_bytes + self.active_bytes - self.held_bytes):
            self._process.refused += 1
            return ServerFull("the server holds as many received bytes as it may; retry later")
        if self.size != self._seen_size:
            self._seen_size, self._unseen = self.size, 0
        else:
            self._unseen += self.received - max(self.chunk_at, self.start_at)
        if self._unseen > 2 * self.max_head_bytes and not announced:  # the first of these bytes may be a head
            return HeadTooLarge(f"a chunk extension or the trailers are larger than {self.max_head_bytes} bytes")
        framing = self.received - self.start_at - self.size - self.max_head_bytes
        if framing > self.size + FRAMING_BYTES:
            return BodyTooLarge("the sizes and extensions of the chunks are larger than the body; send larger chunks")
        return None

    def hold(self, receiving: bool) -> None:
        """Count what the connection holds now: an unfinished request, the waiting ones, and a large active one."""
        held = self.waiting_bytes + self.active_bytes
        if receiving:
            held += self.size + min(max(self.received - self.start_at - self.size, 0), self.max_head_bytes)
        self._process.move(held - self.held_bytes)
        self.held_bytes = held

    def _too_long(self, url: bytes, headers: Headers) -> SlipwayError:
        """The refusal of a long head: for its URL if that alone is too long, or if nothing else has arrived."""
        if headers:
            return self.url_error(url) or HeadTooLarge(
                f"the head is larger than {self.max_head_bytes} bytes, the limit of --max-head-kb; send fewer headers"
            )
        limit = min(MAX_URL_BYTES, self.max_head_bytes)
        return UrlTooLong(f"the URL is longer than {limit} bytes; send values in the body")


class Connection(Protocol):
    """A connection as the limit on their number sees it."""

    def idle_ns(self) -> int:
        """Nanoseconds since its last request ended; 0 while it has one."""
        ...

    def close_idle(self) -> None:
        """Close it; it has no request."""
        ...


class Connections:
    """The open connections, at most ``limit``. A new one replaces an idle one, so that clients that keep connections
    without use cannot lock others out."""

    def __init__(self, limit: int = 4_096) -> None:
        self.limit = limit
        self.refused = 0
        self.accepted = 0
        self._open: OrderedDict[Connection, None] = OrderedDict()  # in the order in which they are examined

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, new: Connection) -> bool:
        """Count a new connection. Returns False if there is no room for it."""
        if len(self._open) >= self.limit and not self._close_one():
            self.refused += 1
            return False
        self._open[new] = None
        self.accepted += 1
        return True

    def leave(self, one: Connection) -> None:
        """Forget a connection that is closed; one that was not admitted is ignored."""
        self._open.pop(one, None)

    def _close_one(self) -> bool:
        for _ in range(min(EXAMINED, len(self._open))):
            one = next(iter(self._open))
            if one.idle_ns() >= IDLE_NS:
                del self._open[one]
                one.close_idle()
                return True
            self._open.move_to_end(one)
        return False


def count_error(headers: Headers) -> SlipwayError | None:
    """The refusal of too many header fields; None if their number is within the limit."""
    if len(headers) <= MAX_HEADERS:
        return None
    return HeadTooLarge(f"the head has {len(headers)} fields, the limit is {MAX_HEADERS}; send fewer headers")


def body_too_large(max_body_bytes: int) -> BodyTooLarge:
    """The refusal of a body beyond the limit."""
    return BodyTooLarge(
        f"the body is larger than {max_body_bytes / 1e6:g} MB, the limit that the server was started with"
    )


def content_length(headers: Headers) -> int:
    """The announced size of a body; 0 where none is announced."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and len(value) <= 18:
            return int(value)
    return 0
