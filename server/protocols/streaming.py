"""Answers in pieces: how a handler begins one, feeds it as fast as the client reads, and ends or breaks it.

Once the first byte has left, the status cannot change: what fails then closes the connection before the end of the
answer, which every client of HTTP/1.1 notices. Where pieces are not possible (HTTP/1.0, or another server around the
handlers) they are collected and sent whole, and a failure is an ordinary one.
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
    """Begin the response to a request in pieces. To be called instead of ``send``, once, on the event loop."""
    outlet = responder.begin_stream(status, content_type, headers, source)
    return outlet or Collected(head, responder, status, content_type, headers)


class Collected:
    """Pieces for a client that takes an answer only whole."""

    writable = True

    def __init__(self, head: Head, responder: Responder, status: int, content_type: bytes, headers: Headers) -> None:
        self._head = head
        self._responder = responder
        self._begun = status, content_type, headers
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def end(self) -> None:
        status, content_type, headers = self._begun
        self._responder.send(status, content_type, b"".join(self._pieces), headers)

    def fail(self, error: SlipwayError) -> None:
        send_failure(error, self._head, self._responder)


async def pump(head: Head, responder: Responder, content_type: bytes, pieces: AsyncIterator[bytes]) -> None:
    """Answer with what an iterator yields: the next piece is asked for when the client has read the ones before.

    Raises ClientGone when the client has left (the iterator is closed then), and what the iterator raises, after the
    answer has been broken off; before its first piece that is an ordinary failure.
    """
    feed = _Feed()
    outlet: Outlet | None = None
    try:
        async for piece in pieces:
            outlet = outlet or begin(head, responder, 200, content_type, feed)
            if not feed.left:
                outlet.write(piece)
            await feed.wait(outlet)
            if feed.left:
                raise ClientGone("the client left before the end of its answer")
    except ClientGone:
        await _closed(pieces)
        raise
    except Exception as error:
        ours = (
            error if isinstance(error, SlipwayError) else SlipwayError("the answer broke off; the log has the details")
        )
        if outlet is None:
            send_failure(ours, head, responder)
        else:
            outlet.fail(ours)
        raise
    (outlet or begin(head, responder, 200, content_type, feed)).end()


class _Feed:
    """The client's side of a pump."""

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


async def _closed(pieces: AsyncIterator[bytes]) -> None:
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
