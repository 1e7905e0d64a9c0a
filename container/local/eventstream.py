"""The framing of a response stream: length-prefixed messages, each with typed headers and two CRC-32 values.

The format is AWS's ``vnd.amazon.eventstream``: four bytes of total length, four of the headers' length, the CRC of
these eight; headers as (one byte length, name, type 7, two bytes length, text); payload; the CRC of all before it.
"""

from __future__ import annotations

import json
import struct
from zlib import crc32

MEDIA_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7
_FRAME_BYTES = 16
MAX_PAYLOAD_BYTES = 128 * 1_024
"""The limit of one part; longer chunks are cut. The API does not promise where."""


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message, framed. Header values are text."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", len(head) + len(payload) + _FRAME_BYTES, len(head))
    framed = prelude + struct.pack(">I", crc32(prelude)) + head + payload
    return framed + struct.pack(">I", crc32(framed))


def payload_parts(payload: bytes) -> bytes:
    """A chunk of the response as ``PayloadPart`` events."""
    headers = {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
    cut = range(0, len(payload), MAX_PAYLOAD_BYTES)
    return b"".join(message(headers, payload[begin : begin + MAX_PAYLOAD_BYTES]) for begin in cut)


def stream_error(code: str, text: str) -> bytes:
    """The last event of a failed stream: ModelStreamError, with ModelInvocationTimeExceeded or StreamBroken as code."""
    headers = {":exception-type": "ModelStreamError", ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, json.dumps({"Message": text, "ErrorCode": code}).encode())


def _header(name: str, value: str) -> bytes:
    text = value.encode()
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _TEXT, len(text)) + text
