"""Content encodings of bodies: gzip, deflate and zstd, expanded up to a limit."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

from .errors import BodyTooLarge, MalformedInput, UnsupportedMedia

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FIRST_PIECE, LARGEST_PIECE = 256, 1 << 20
"""Bytes that are given to a stream at a time. It copies what it does not use: the members of a body may be tiny."""

GZIP_OR_ZLIB, RAW = 47, -15
"""Window sizes of zlib: 32 + 15 detects the header of gzip or zlib, a negative one has no header."""

WINDOW_LOG = 23
"""Zstandard in HTTP has a window of at most 8 MB (RFC 9659): its sender decides how much memory the receiver needs."""


class Stream(Protocol):
    """One compressed member that is expanded."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _zstd() -> Stream:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})


_GZIP, _RAW = partial(zlib.decompressobj, GZIP_OR_ZLIB), partial(zlib.decompressobj, RAW)
ENCODINGS: dict[bytes, tuple[Callable[[], Stream], ...]] = {
    b"gzip": (_GZIP,),
    b"x-gzip": (_GZIP,),
    b"deflate": (_GZIP, _RAW),
    b"zstd": (_zstd,),
}
"""The streams that read each encoding; the first that can is used.

Some clients send ``deflate`` without the header of zlib that RFC 9110 requires.
"""


def is_compressed(encoding: bytes | None) -> bool:
    """Whether a Content-Encoding header names anything but the plain body."""
    return encoding is not None and encoding.strip().lower() not in (b"", b"identity")


def expand(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """The expanded body. Raises UnsupportedMedia, MalformedInput, or BodyTooLarge beyond ``max_bytes``."""
    name = encoding.strip().lower()
    if name not in ENCODINGS:
        shown = encoding.decode("latin-1")[:40]
        raise UnsupportedMedia(
            f"Content-Encoding {shown!r} is not supported; send gzip, deflate or zstd, or the plain body"
        )
    fault: Exception | None = None
    for begin in ENCODINGS[name]:
        try:
            return _members(body, begin, max_bytes)
        except (zlib.error, zstd.ZstdError) as error:
            fault = fault or error
    raise MalformedInput(f"the body is not {name.decode()}: {fault}") from fault


def _members(body: bytes, begin: Callable[[], Stream], max_bytes: int) -> bytes:
    """All members of a compressed body. Raises the stream's error, MalformedInput if it is cut off, or BodyTooLarge."""
    expanded, at = bytearray(), 0
    while at < len(body):
        stream = begin()
        size = FIRST_PIECE
        while not stream.eof:
            piece = body[at : at + size]
            if not piece:
                raise MalformedInput("the compressed body is cut off; send all of it")
            expanded += stream.decompress(piece, max_bytes + 1 - len(expanded))
            if len(expanded) > max_bytes:
                raise BodyTooLarge(f"the body expands beyond {max_bytes / 1e6:g} MB, the limit of this server")
            at += len(piece) - len(stream.unused_data)
            size = min(2 * size, LARGEST_PIECE)
    return bytes(expanded)
