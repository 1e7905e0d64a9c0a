"""The header fields of one call, read and checked (RFC 9113, 8.2 and 8.3, and gRPC over HTTP/2)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import HeadTooLarge, SlipwayError
from ..http.limits import MAX_HEADERS
from ..protocols.request_options import DEADLINE
from ..request import Headers

MEDIA_TYPE = b"application/grpc"
IDENTITY = b"identity"

FIELD_BYTES = 32
"""Bytes that a field counts beside its name and value (RFC 7541, 4.1)."""

LEAST_MS = 0.001

UNITS_NS = {72: 3_600_000_000_000, 77: 60_000_000_000, 83: 1_000_000_000, 109: 1_000_000, 117: 1_000, 110: 1}
"""Nanoseconds of the units of grpc-timeout: H, M, S, m, u and n."""

HOST = (b"host", b"localhost")
"""The host of every call: browsers, whose requests the guards check by it, have no way to gRPC."""

PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
CONNECTION_FIELDS = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"),
)
TRANSPORT = frozenset(
    (
        *(b"te", b"content-type", b"content-length", b"host", b"accept-encoding", b"content-encoding"),
        *(b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding", b"grpc-message-type"),
    )
)
"""Fields of the transport, which are no metadata of the call."""

_name = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch
_forbidden = re.compile(rb"[\0\r\n]").search
_timeout = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch


class MalformedFields(Exception):
    """The fields are no request of HTTP/2: the stream ends with PROTOCOL_ERROR."""


class Fields:
    """What a call says before its messages.

    ``path``: of the method. ``headers``: metadata as headers of HTTP, and the deadline as the header that HTTP has for
    it. ``timeout_ns``: the time that the call has, 0 for any. ``encoding``: of compressed messages. ``status``: of
    HTTP, for a request that is no call, else 0. ``error``: the refusal of fields beyond a limit.
    """

    __slots__ = ("encoding", "error", "headers", "path", "status", "timeout_ns")

    def __init__(self, path: bytes, headers: Headers) -> None:
        self.path = path
        self.headers = headers
        self.timeout_ns = 0
        self.encoding = IDENTITY
        self.status = 0
        self.error: SlipwayError | None = None


def read_fields(pairs: Iterable[tuple[bytes, bytes]], size_bytes: int, max_bytes: int) -> Fields:
    """The fields of a call. ``size_bytes``: of all, also of those beyond the limit, which are not there. Raises
    MalformedFields."""
    pseudo, regular = _checked(pairs)
    if not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        raise MalformedFields(":method, :scheme or :path is missing")
    fields = Fields(pseudo[b":path"], [HOST])
    content_type = b""
    for name, value in regular:
        if name not in TRANSPORT:
            fields.headers.append((name, value))
        elif name == b"content-type":
            content_type = value
        elif name == b"grpc-timeout":
            fields.timeout_ns = _timeout_ns(value)
        elif name == b"grpc-encoding":
            fields.encoding = value.lower()
    if fields.timeout_ns:
        fields.headers.append(deadline_header(fields.timeout_ns))
    if pseudo[b":method"] != b"POST":
        fields.status = 405
    elif content_type != MEDIA_TYPE and not content_type.startswith((MEDIA_TYPE + b"+", MEDIA_TYPE + b";")):
        fields.status = 415
    if size_bytes > max_bytes or len(regular) > MAX_HEADERS:
        fields.headers = [HOST]
        fields.error = HeadTooLarge(
            f"the metadata has more than {MAX_HEADERS} fields, or {size_bytes} bytes of the {max_bytes} of "
            "--max-head-kb; send less of it"
        )
    return fields


def deadline_header(left_ns: int) -> tuple[bytes, bytes]:
    """The time that a call has left, as a header."""
    return DEADLINE, b"%.3f" % max(left_ns / 1e6, LEAST_MS)


def _checked(pairs: Iterable[tuple[bytes, bytes]]) -> tuple[dict[bytes, bytes], Headers]:
    """The pseudo-header fields, and the others. Raises MalformedFields."""
    pseudo: dict[bytes, bytes] = {}
    regular: Headers = []
    for name, value in pairs:
        if name[:1] == b":":
            if regular or name not in PSEUDO or name in pseudo:
                raise MalformedFields("a pseudo-header field is unknown, twice, or behind an ordinary one")
            pseudo[name] = value
        elif not _name(name) or name in CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
            raise MalformedFields("a field is not allowed in HTTP/2")
        else:
            regular.append((name, value))
        if _forbidden(value):
            raise MalformedFields("a value holds a line break")
    return pseudo, regular


def _timeout_ns(value: bytes) -> int:
    """The time of grpc-timeout, in nanoseconds, at least 1. Raises MalformedFields."""
    found = _timeout(value)
    if found is None:
        raise MalformedFields("grpc-timeout is no number with a unit")
    return max(int(found[1]) * UNITS_NS[found[2][0]], 1)
