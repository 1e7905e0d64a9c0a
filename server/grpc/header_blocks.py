"""The header blocks of responses, without any state of the connection: no field is ever indexed."""

from __future__ import annotations

from urllib.parse import quote

from ..request import Headers
from .codes import Code

STATUS_200 = b"\x88"
"""``:status: 200``, in the static table."""
STATUS_NAME, CONTENT_TYPE_NAME = 8, 31
"""Names in the static table."""

LONGEST_MESSAGE = 2_048
"""Characters of a message. Clients refuse trailers beyond 8 KB, and a character may take nine bytes there."""

SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What stands for itself in grpc-message."""


def literal(name: bytes, value: bytes) -> bytes:
    """A field that is never indexed, without Huffman coding."""
    return b"\x00" + _string(name) + _string(value)


def named(index: int, value: bytes) -> bytes:
    """A field whose name is in the static table; it is not indexed."""
    return (bytes((index,)) if index < 0x0F else bytes((0x0F, index - 0x0F))) + _string(value)


def trailers(code: int, message: str, headers: Headers) -> bytes:
    """The trailers of a call. ``headers``: further metadata, such as Retry-After."""
    pieces = [literal(b"grpc-status", b"%d" % code)]
    if message:
        cut = message[:LONGEST_MESSAGE].encode(errors="replace")
        pieces.append(literal(b"grpc-message", quote(cut, safe=SAFE).encode()))
    pieces += [literal(name.lower(), value) for name, value in headers]
    return b"".join(pieces)


def success(headers: Headers) -> bytes:
    """The trailers of a call that succeeded."""
    return trailers(Code.OK, "", headers) if headers else SUCCESS


def no_call(status: int) -> bytes:
    """The only fields of the response to a request that is no call: a status of HTTP."""
    return named(STATUS_NAME, b"%d" % status)


def _string(text: bytes) -> bytes:
    """A string with its length (RFC 7541, 5.1 and 5.2)."""
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    head, size = bytearray((0x7F,)), size - 0x7F
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + text


HEAD = STATUS_200 + named(CONTENT_TYPE_NAME, b"application/grpc")
"""The fields before the first message."""

SUCCESS = literal(b"grpc-status", b"0")
"""The trailers of a call that succeeded without further metadata."""
