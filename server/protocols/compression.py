"""Compressed request bodies: ``Content-Encoding`` gzip and deflate, expanded up to the limit of a body."""

from __future__ import annotations

import logging
import zlib
from functools import partial

from ..errors import BodyTooLarge, MalformedInput, SlipwayError, UnsupportedMedia
from ..observe.metrics import Metrics
from ..request import Head
from . import Handler, Responder
from .failure import send_failure
from .offload import on_thread

log = logging.getLogger("slipway.inference")

FIRST_PIECE, LARGEST_PIECE = 256, 1 << 20
"""Bytes that are given to zlib at a time. It copies what it does not use: the members of a body may be tiny."""

GZIP_OR_ZLIB, RAW = 47, -15
"""Window sizes of zlib: 32 + 15 detects the header of gzip or zlib, a negative one has no header."""
ENCODINGS = {b"gzip": (GZIP_OR_ZLIB,), b"x-gzip": (GZIP_OR_ZLIB,), b"deflate": (GZIP_OR_ZLIB, RAW)}
"""Some clients send ``deflate`` without the header of zlib that RFC 9110 requires."""


class Expander:
    """Expands compressed bodies on another thread, and passes them to their handler."""

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics

    def pass_on(self, handler: Handler, head: Head, body: bytes, encoding: bytes, responder: Responder) -> None:
        """Call the handler with the expanded body, and without the header; or send an error."""

        def then(end: bytes | BaseException) -> None:
            try:
                if isinstance(end, BaseException):
                    raise end
                head.headers = [pair for pair in head.headers if pair[0] != b"content-encoding"]
                handler(head, end, responder)
            except SlipwayError as error:
                self._metrics.refused[error.code] += 1
                send_failure(error, head, responder)
            except Exception:
                log.exception("handling a compressed body failed")
                send_failure(SlipwayError("the request failed; the server's log has the details"), head, responder)

        on_thread(partial(expand, body, encoding, self._max_bytes), then)


def is_compressed(encoding: bytes | None) -> bool:
    """Whether a Content-Encoding header names anything but the plain body."""
    return encoding is not None and encoding.strip().lower() not in (b"", b"identity")


def expand(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """The expanded body. Raises UnsupportedMedia, MalformedInput, or BodyTooLarge beyond ``max_bytes``."""
    name = encoding.strip().lower()
    if name not in ENCODINGS:
        shown = encoding.decode("latin-1")[:40]
        raise UnsupportedMedia(f"Content-Encoding {shown!r} is not supported; send gzip, deflate, or the plain body")
    fault: zlib.error | None = None
    for window in ENCODINGS[name]:
        try:
            return _inflate(body, window, max_bytes)
        except zlib.error as error:
            fault = fault or error
    raise MalformedInput(f"the body is not {name.decode()}: {fault}") from fault


def _inflate(body: bytes, window: int, max_bytes: int) -> bytes:
    """All members of a compressed body. Raises zlib.error, MalformedInput if it is cut off, or BodyTooLarge."""
    expanded, at = bytearray(), 0
    while at < len(body):
        stream = zlib.decompressobj(window)
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
