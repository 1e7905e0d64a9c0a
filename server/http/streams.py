"""A response in chunks on one connection of the hot path."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..errors import SlipwayError, release
from ..protocols.responder import Source

log = logging.getLogger("slipway.http")


class ChunkedOutlet:
    """Writes pieces as chunks (RFC 9112, 7.1). ``over(bytes, broken)`` is called once, when the response has ended."""

    def __init__(self, transport: Any, flow: Any, source: Source, over: Callable[[int, bool], None]) -> None:
        self._transport = transport
        self._flow = flow
        self._source: Source | None = source  # None after the end: it often refers to this outlet and to the request
        self._over = over
        self._size = 0

    @property
    def writable(self) -> bool:
        return not self._flow.write_paused

    def write(self, piece: bytes) -> None:
        # An empty chunk would be the last one.
        if piece and self._source is not None and not self._transport.is_closing():
            self._size += len(piece)
            self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self) -> None:
        self._finish(b"0\r\n\r\n", broken=False)

    def fail(self, error: SlipwayError) -> None:
        """End without the last chunk, by which the client sees that the response is incomplete."""
        log.warning("response broken off bytes=%d code=%s error=%s", self._size, error.code, error)
        self._finish(b"", broken=True)
        release(error)

    def resume(self) -> None:
        if self._source is not None:
            self._source.resume()

    def lost(self) -> None:
        """The connection was closed by the client."""
        source, self._source = self._source, None
        if source is not None:
            source.gone()

    def _finish(self, last: bytes, *, broken: bool) -> None:
        if self._source is None:
            return
        self._source = None
        if last and not self._transport.is_closing():
            self._transport.write(last)
        self._over(self._size, broken)
