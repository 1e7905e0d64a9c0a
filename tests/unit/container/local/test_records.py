"""Files cut into records, and records put into requests."""

from __future__ import annotations

import struct

import pytest

from container.local.records import InvalidInput, joined, lines, payloads, recordio, tfrecord


def frame(record: bytes, flag: int = 0) -> bytes:
    return struct.pack("<II", 0xCED7230A, flag << 29 | len(record)) + record + bytes(-len(record) % 4)


def tf(record: bytes) -> bytes:
    return struct.pack("<Q", len(record)) + b"crc1" + record + b"crc2"


def test_lines_end_with_or_without_a_last_end() -> None:
    assert list(lines(b"a\nb\r\n")) == [b"a", b"b"]
    assert list(lines(b"a\n\nb")) == [b"a", b"", b"b"]
    assert list(lines(b"")) == []


def test_recordio_frames_stay_whole() -> None:
    cut = frame(b"12345678", 1) + frame(b"middle", 2) + frame(b"end", 3)
    frames = [frame(b"abc"), cut, frame(b"")]
    assert list(recordio(b"".join(frames))) == frames


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (frame(b"abcd")[:-1], "inside of the record at byte 0"),
        (frame(b"abcd") + b"xxxxxxxx", "at byte 12"),
        (frame(b"abcd") + b"\x0a", "1 bytes are left"),
        (frame(b"abcd", 1), "no last part"),
    ],
)
def test_broken_recordio_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        list(recordio(content))


def test_tfrecord_frames_stay_whole() -> None:
    frames = [tf(b"abc"), tf(b"")]
    assert list(tfrecord(b"".join(frames))) == frames
    with pytest.raises(InvalidInput, match="inside of the record at byte 19"):
        list(tfrecord(b"".join(frames)[:-1]))
    with pytest.raises(InvalidInput, match="3 bytes are left at byte 19"):
        list(tfrecord(frames[0] + b"abc"))


def test_a_request_holds_as_many_records_as_its_payload() -> None:
    records = [b"aa", b"bb", b"cc", b"d"]
    assert list(payloads(records, "Line", "MultiRecord", 6)) == [[b"aa", b"bb"], [b"cc", b"d"]]
    assert list(payloads(records, "RecordIO", "MultiRecord", 6)) == [[b"aa", b"bb", b"cc"], [b"d"]]
    assert list(payloads(records, "Line", "MultiRecord", None)) == [records]
    assert list(payloads(records, "Line", "SingleRecord", 6)) == [[record] for record in records]
    assert list(payloads([], "Line", "MultiRecord", 6)) == []


def test_a_record_larger_than_a_payload_is_refused() -> None:
    with pytest.raises(InvalidInput, match="record 1 has 4 bytes"):
        list(payloads([b"a", b"abc"], "Line", "MultiRecord", 3))
    with pytest.raises(InvalidInput, match="the file has 4 bytes"):
        list(payloads([b"abcd"], "None", "MultiRecord", 3))


def test_lines_are_sent_with_their_ends() -> None:
    assert joined([b"a", b"b"], "Line") == b"a\nb\n"
    assert joined([b"a", b"b"], "RecordIO") == b"ab"
