"""Frames: the units of HTTP/2 (RFC 9113, 4 and 6), their numbers, and the errors that they may be."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""The first bytes of every client."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, COMPRESSION_ERROR = 5, 6, 7, 9
ENHANCE_YOUR_CALM = 11

ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 2, 3, 4, 5, 6
"""Settings that are used here."""

HEAD_BYTES = 9
"""Bytes of a frame before its payload."""

FRAME_BYTES = 16_384
"""The largest payload that every peer takes, and the largest that is taken here."""

MOST_FRAME_BYTES = (1 << 24) - 1
MOST_WINDOW = (1 << 31) - 1
FIRST_WINDOW = 65_535
"""Send windows before any setting."""

WEIGHT_BYTES = 5
"""Bytes of a priority (RFC 7540, 6.2), which is ignored."""

read_head = Struct(">HBBBI").unpack_from
"""The head of a frame: length (upper 16 bits, lower 8 bits), type, flags, stream."""
_head = Struct(">HBBBI").pack
_setting = Struct(">HI")
_word = Struct(">I")


class ConnectionFault(Exception):
    """The peer has broken a rule in such a way that the connection cannot go on. ``code``: of its GOAWAY frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return _head(size >> 8, size & 0xFF, kind, flags, stream) + payload


def frame_head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """The head of a frame whose payload of ``size`` bytes follows."""
    return _head(size >> 8, size & 0xFF, kind, flags, stream)


def settings(pairs: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_setting.pack(*pair) for pair in pairs.items()))


def read_settings(payload: bytes) -> dict[int, int]:
    """The settings of a payload: of each the last value. Raises ConnectionFault."""
    if len(payload) % _setting.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a SETTINGS frame holds no whole number of settings")
    pairs: Iterator[tuple[int, int]] = _setting.iter_unpack(payload)
    found: dict[int, int] = {}
    for name, value in pairs:
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
        if name == INITIAL_WINDOW_SIZE and value > MOST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is beyond 2^31 - 1")
        if name == MAX_FRAME_SIZE and not FRAME_BYTES <= value <= MOST_FRAME_BYTES:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of its range")
        found[name] = value
    return found


def reset(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _word.pack(code))


def window_update(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, _word.pack(more))


def goaway(last_stream: int, code: int, reason: str = "") -> bytes:
    """A GOAWAY frame: streams above ``last_stream`` were not and will not be looked at."""
    return frame(GOAWAY, 0, 0, _word.pack(last_stream) + _word.pack(code) + reason.encode("ascii", "replace"))


def word(payload: bytes) -> int:
    """The number in a payload of four bytes, without its first bit, which is reserved. Raises ConnectionFault."""
    if len(payload) != _word.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a frame of one number has not four bytes")
    return int(_word.unpack(payload)[0]) & MOST_WINDOW


def unpadded(payload: bytes, flags: int) -> bytes:
    """A payload of DATA or HEADERS without its padding and its priority. Raises ConnectionFault."""
    begin, end = 0, len(payload)
    if flags & PADDED:
        begin, end = 1, end - (payload[0] if payload else 0)
    if flags & PRIORITIZED:
        begin += WEIGHT_BYTES
    if begin > end or (flags & PADDED and not payload):
        raise ConnectionFault(PROTOCOL_ERROR, "a frame is shorter than its padding or its priority")
    return payload[begin:end]
