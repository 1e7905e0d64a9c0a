"""The responder: how a handler sends its response, whole or in chunks, over any transport."""

from __future__ import annotations

from typing import Protocol

from ..errors import SlipwayError
from ..request import Headers

NO_HEADERS: Headers = []


class Source(Protocol):
    """The producer of a streamed response. Its methods are called on the event loop."""

    def resume(self) -> None:
        """The client has read the chunks that were sent: :attr:`Outlet.writable` is true again."""
        ...

    def gone(self) -> None:
        """The client has left. The source must write nothing more; no further method is called."""
        ...


class Outlet(Protocol):
    """A streamed response that has begun. One call of ``end`` or ``fail`` ends it, unless the client leaves first."""

    @property
    def writable(self) -> bool:
        """False while the client reads more slowly than chunks are written. Further chunks are kept in memory."""
        ...

    def write(self, chunk: bytes) -> None:
        """Send one chunk."""
        ...

    def end(self) -> None:
        """Complete the response."""
        ...

    def fail(self, error: SlipwayError) -> None:
        """Break the response off: an ordinary error response before the first chunk, else the connection closes."""
        ...


class Responder(Protocol):
    """Sends the response to one request, in one call of ``send`` or ``begin_stream``, on the event loop."""

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        """Send the whole response."""
        ...

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> Outlet | None:
        """Send the head of a response whose body follows in chunks.

        Returns None and sends nothing if the client takes only whole bodies; the caller then uses ``send``.
        """
        ...
