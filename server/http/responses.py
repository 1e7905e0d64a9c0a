"""The bytes of responses: status lines and heads, built once a second instead of once a request."""

from __future__ import annotations

import http
from email.utils import formatdate

from ..request import Headers

CLOSE = b"connection: close\r\n"


class ResponseHeads:
    """Cached beginnings of responses, up to the value of ``content-length``; each lasts for one second of ``date``."""

    def __init__(self) -> None:
        self._heads: dict[tuple[int, bytes], bytes] = {}
        self._date = b""  # the whole line; absent before the first tick

    def tick(self, now_s: float) -> None:
        """Set the date of the heads; called about once a second with seconds of the Unix epoch."""
        self._date = b"date: %b\r\n" % formatdate(now_s, usegmt=True).encode()
        self._heads.clear()

    def whole(self, status: int, content_type: bytes, body: bytes, headers: Headers, close: bool) -> bytes:
        """The bytes of a whole response."""
        head = self._heads.get((status, content_type)) or self._head(status, content_type)
        extra = b"".join(b"%b: %b\r\n" % pair for pair in headers) if headers else b""
        if close:
            extra += CLOSE
        return b"%b%d\r\n%b\r\n%b" % (head, len(body), extra, body)

    def head(self, status: int, content_type: bytes, size: int, headers: Headers, close: bool) -> bytes:
        """The head of a response whose body of ``size`` bytes is written apart, because a copy of it takes long."""
        head = self._heads.get((status, content_type)) or self._head(status, content_type)
        extra = b"".join(b"%b: %b\r\n" % pair for pair in headers) + (CLOSE if close else b"")
        return b"%b%d\r\n%b\r\n" % (head, size, extra)

    def begin(self, status: int, content_type: bytes, headers: Headers, close: bool) -> bytes:
        """The bytes of the head of a response whose body follows in chunks."""
        extra = b"".join(b"%b: %b\r\n" % pair for pair in headers) + (CLOSE if close else b"")
        line = b"HTTP/1.1 %d %b\r\n%bcontent-type: %b\r\n" % (status, _phrase(status), self._date, content_type)
        return line + b"transfer-encoding: chunked\r\n" + extra + b"\r\n"

    def _head(self, status: int, content_type: bytes) -> bytes:
        head = b"HTTP/1.1 %d %b\r\n%bcontent-type: %b\r\ncontent-length: " % (
            *(status, _phrase(status), self._date, content_type),
        )
        self._heads[status, content_type] = head
        return head


def _phrase(status: int) -> bytes:
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"
