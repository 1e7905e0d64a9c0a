"""A response in chunks on one connection of the hot path."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..errors import SlipwayError
from ..protocols.responder import Source

log = logging.getLogger("slipway.http")


class ChunkedOutlet:
    """Writes pieces as chunks (RFC 9112, 7.1). ``over(bytes, broken)`` is called once, when the response has ended."""

    def __init__(self, transport: Any, flow: Any, source: Source, over: Callable[[int, bool], None]) -> None:
        self._transport = transport
        self._flow = flow
        self._source = source
        self._over = over
        self._size = 0
        self._ended = False

    @property
    def writable(self) -> bool:
        return not self._flow.write_paused

    def write(self, piece: bytes) -> None:
        if piece and not self._ended and not self._transport.is_closing():  # an empty chunk would be the last one
            self._size += len(piece)
            self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self) -> None:
        self._finish(b"0\r\n\r\n", broken=False)

    def fail(self, error: SlipwayError) -> None:
        """End without the last chunk, by which the client sees that the response is incomplete."""
        log.warning("response broken off bytes=%d code=%s error=%s", self._size, error.code, error)
        self._finish(b"", broken=True)

    def resume(self) -> None:
        if not self._ended:
            self._source.resume()

    def lost(self) -> None:
        """The connection was closed by the client."""
        if not self._ended:
            self._ended = True
            self._source.gone()

    def _finish(self, last: bytes, *, broken: bool) -> None:
        if self._ended:
            return
        self._ended = True
        if last and not self._transport.is_closing():
            self._transport.write(last)
        self._over(self._size, broken)
