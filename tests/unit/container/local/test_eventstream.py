"""The framing of response streams, against bytes written by hand and against the parser that clients use."""

from __future__ import annotations

import json
from typing import Any

from botocore.eventstream import EventStreamBuffer

from container.local import eventstream

GOLDEN = bytes.fromhex(
    "0000006b 00000059 99777065 "  # length of all, length of the headers, CRC of these eight
    "0b 3a6576656e742d74797065 07 000b 5061796c6f616450617274 "  # :event-type PayloadPart
    "0d 3a636f6e74656e742d74797065 07 0018 6170706c69636174696f6e2f6f637465742d73747265616d "  # :content-type
    "0d 3a6d6573736167652d74797065 07 0005 6576656e74 "  # :message-type event
    "6869 f0e10a16"  # hi, CRC of all before
)


def parsed(content: bytes) -> list[Any]:
    buffer = EventStreamBuffer()
    buffer.add_data(content)
    return list(buffer)


def test_a_part_is_framed_byte_for_byte() -> None:
    assert eventstream.payload_parts(b"hi") == GOLDEN


def test_clients_read_parts_with_their_check_sums() -> None:
    [event] = parsed(eventstream.payload_parts(b"hello"))
    assert event.payload == b"hello"
    assert event.headers == {
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
        ":message-type": "event",
    }


def test_a_long_piece_becomes_several_parts() -> None:
    content = bytes(range(256)) * 1_025
    events = parsed(eventstream.payload_parts(content))
    assert len(events) == 3
    assert b"".join(event.payload for event in events) == content


def test_a_failure_is_an_exception_with_its_code() -> None:
    [event] = parsed(eventstream.stream_error("StreamBroken", "it ended"))
    assert event.headers[":message-type"] == "exception"
    assert event.headers[":exception-type"] == "ModelStreamError"
    assert json.loads(event.payload) == {"Message": "it ended", "ErrorCode": "StreamBroken"}
