"""Streamed responses: a handler begins one, writes chunks as fast as the client reads, and ends it or breaks it off.

After the first byte the status cannot change. A later failure closes the connection before the end of the response,
which every HTTP/1.1 client notices. For HTTP/1.0 clients and the platform's asynchronous requests the chunks are
collected and sent as one body; a failure is then an ordinary error response.
"""

from __future__ import annotations

from ..errors import SlipwayError
from ..request import Head, Headers
from .failure import send_failure
from .request_options import needs_length
from .responder import NO_HEADERS, Outlet, Responder, Source


def begin(
    head: Head, responder: Responder, status: int, content_type: bytes, source: Source, headers: Headers = NO_HEADERS
) -> Outlet:
    """Begin a streamed response. Called once for a request, instead of ``send``, on the event loop."""
    outlet = None if needs_length(head) else responder.begin_stream(status, content_type, headers, source)
    return outlet or Collected(head, responder, status, content_type, headers)


class Collected:
    """Collects the chunks for a client that takes only whole bodies."""

    writable = True

    def __init__(self, head: Head, responder: Responder, status: int, content_type: bytes, headers: Headers) -> None:
        self._head = head
        self._responder = responder
        self._begun = status, content_type, headers
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def end(self) -> None:
        status, content_type, headers = self._begun
        self._responder.send(status, content_type, b"".join(self._chunks), headers)

    def fail(self, error: SlipwayError) -> None:
        send_failure(error, self._head, self._responder)
