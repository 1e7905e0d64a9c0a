"""The inbox: takes the bytes of one call apart into its messages. Each follows a flag and its length (4 bytes)."""

from __future__ import annotations

from io import BytesIO

from ..errors import MalformedInput
from ..http.limits import body_too_large

PREFIX_BYTES = 5
PLAIN, COMPRESSED = 0, 1


class Inbox:
    """The unfinished message of one call. ``held_bytes``: what has arrived of it."""

    __slots__ = ("_body", "_flag", "_max_bytes", "_missing_bytes", "_prefix", "held_bytes")

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes``: of a message."""
        self._max_bytes = max_bytes
        self._prefix = b""
        self._flag = PLAIN
        self._missing_bytes = 0
        self._body: BytesIO | None = None  # None: the prefix has not arrived in full
        self.held_bytes = 0

    @property
    def between(self) -> bool:
        """Whether no message has begun that is not complete."""
        return self._body is None and not self._prefix

    def feed(self, chunk: bytes) -> list[tuple[bool, bytes]]:
        """The messages that are complete with these bytes, and whether each is compressed. Raises SlipwayError."""
        view = memoryview(chunk)
        messages: list[tuple[bool, bytes]] = []
        at = 0
        while at < len(view):
            if self._body is None:
                more = PREFIX_BYTES - len(self._prefix)
                self._prefix += bytes(view[at : at + more])
                at += more
                if len(self._prefix) < PREFIX_BYTES:
                    break
                self._begin()
            assert self._body is not None
            piece = view[at : at + self._missing_bytes]
            at += len(piece)
            self._body.write(piece)
            self._missing_bytes -= len(piece)
            if not self._missing_bytes:
                messages.append((self._flag == COMPRESSED, self._body.getvalue()))  # nobody else has it: no copy
                self._body = None
        self.held_bytes = len(self._prefix) if self._body is None else self._body.tell()
        return messages

    def _begin(self) -> None:
        self._flag, self._missing_bytes = self._prefix[0], int.from_bytes(self._prefix[1:], "big")
        self._prefix = b""
        if self._flag not in (PLAIN, COMPRESSED):
            raise MalformedInput("the bytes of the call are no gRPC messages")
        if self._missing_bytes > self._max_bytes:
            raise body_too_large(self._max_bytes)
        self._body = BytesIO()
