"""The upgrade header: requests that ask for another protocol are served as if they had not."""

from __future__ import annotations

from ..request import Headers


def without_upgrade(method: bytes, url: bytes, version: bytes, headers: Headers, rest: bytes) -> bytes:
    """The bytes of a request without its ``upgrade`` header, and ``rest``, which followed its head.

    The server speaks no other protocol, so that the header is ignored (RFC 9110, 7.8). The parser ends such a request
    after its head, but some clients send the header with the first request of every connection, with a body or not.
    """
    fields = b"".join([b"%b: %b\r\n" % field for field in headers if field[0] != b"upgrade"])
    return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, url, version, fields, rest)
