"""A header block that arrives in several frames (RFC 9113, 4.3)."""

from __future__ import annotations

from .frames import ENHANCE_YOUR_CALM, PROTOCOL_ERROR, ConnectionFault


class HeaderBlock:
    """The block that is being received: of ``stream``, 0 while there is none. ``last``: of the HEADERS frame."""

    __slots__ = ("_bytes", "_max_bytes", "_pieces", "last", "stream")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._bytes = 0
        self.stream = 0
        self.last = False

    def begin(self, stream: int, piece: bytes, last: bool) -> None:
        """A HEADERS frame has arrived, which others follow. Raises ConnectionFault."""
        if not stream:
            raise ConnectionFault(PROTOCOL_ERROR, "a header block has no stream")
        self.stream, self.last = stream, last
        self._pieces, self._bytes = [piece], len(piece)

    def add(self, piece: bytes) -> None:
        """A CONTINUATION frame has arrived. Raises ConnectionFault."""
        if not self.stream:
            raise ConnectionFault(PROTOCOL_ERROR, "a CONTINUATION frame follows no header block")
        self._pieces.append(piece)
        self._bytes += len(piece)
        if self._bytes > self._max_bytes:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header block is too large")

    def complete(self) -> bytes:
        """The whole block; there is none any more."""
        block, self._pieces, self.stream = b"".join(self._pieces), [], 0
        return block
