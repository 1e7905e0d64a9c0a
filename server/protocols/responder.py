"""The responder: how a handler sends its response, whole or in pieces, whatever carries the request."""

from __future__ import annotations

from typing import Protocol

from ..errors import SlipwayError
from ..request import Headers

NO_HEADERS: Headers = []


class Source(Protocol):
    """The producer of a streamed response. Its methods are called on the event loop."""

    def resume(self) -> None:
        """The client has read the pieces that were sent: :attr:`Outlet.writable` is true again."""
        ...

    def gone(self) -> None:
        """The client has left. Nothing more is to be written, and nothing else is called."""
        ...


class Outlet(Protocol):
    """A streamed response that has begun. One call of ``end`` or ``fail`` ends it, unless the client leaves first."""

    @property
    def writable(self) -> bool:
        """False while the client reads more slowly than pieces are written. Further pieces are kept in memory."""
        ...

    def write(self, piece: bytes) -> None: ...

    def end(self) -> None: ...

    def fail(self, error: SlipwayError) -> None:
        """Break the response off: as an ordinary error where nothing was sent yet, else by closing the connection."""
        ...


class Responder(Protocol):
    """Sends the response to one request, in one call of ``send`` or ``begin_stream``, on the event loop."""

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        """Send the whole response."""
        ...

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> Outlet | None:
        """Send the head of a response whose body follows in pieces.

        Returns None, and sends nothing, where the client can take only a whole response: then ``send`` is called.
        """
        ...
