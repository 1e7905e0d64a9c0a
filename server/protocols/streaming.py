"""Streamed responses: a handler begins one, writes chunks as fast as the client reads, and ends it or breaks it off.

After the first byte the status cannot change. A later failure closes the connection before the end of the response,
which every HTTP/1.1 client notices. For HTTP/1.0 clients the chunks are collected and sent as one body, and a failure
is an ordinary error response.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ..errors import ClientGone, SlipwayError
from ..request import Head, Headers
from .failure import send_failure
from .responder import NO_HEADERS, Outlet, Responder, Source


def begin(
    head: Head, responder: Responder, status: int, content_type: bytes, source: Source, headers: Headers = NO_HEADERS
) -> Outlet:
    """Begin a streamed response. Called once for a request, instead of ``send``, on the event loop."""
    outlet = responder.begin_stream(status, content_type, headers, source)
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


async def pump(head: Head, responder: Responder, content_type: bytes, chunks: AsyncIterator[bytes]) -> None:
    """Send the chunks of an iterator; the next one is requested after the client has read the ones before.

    Raises ClientGone if the client leaves; the iterator is then closed. Raises the iterator's exception after it broke
    the response off; before the first chunk the client gets an ordinary error response.
    """
    feed = _Feed()
    outlet: Outlet | None = None
    try:
        async for chunk in chunks:
            outlet = outlet or begin(head, responder, 200, content_type, feed)
            if not feed.left:
                outlet.write(chunk)
            await feed.wait(outlet)
            if feed.left:
                raise ClientGone("the client left before the end of its response")
    except ClientGone:
        await _closed(chunks)
        raise
    except Exception as error:
        ours = (
            error
            if isinstance(error, SlipwayError)
            else SlipwayError("the response broke off; the server's log has the details")
        )
        if outlet is None:
            send_failure(ours, head, responder)
        else:
            outlet.fail(ours)
        raise
    (outlet or begin(head, responder, 200, content_type, feed)).end()


class _Feed:
    """Waits for the client of a pump."""

    def __init__(self) -> None:
        self.left = False
        self._turn = asyncio.Event()

    def resume(self) -> None:
        self._turn.set()

    def gone(self) -> None:
        self.left = True
        self._turn.set()

    async def wait(self, outlet: Outlet) -> None:
        while not (outlet.writable or self.left):
            self._turn.clear()
            await self._turn.wait()


async def _closed(chunks: AsyncIterator[bytes]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
