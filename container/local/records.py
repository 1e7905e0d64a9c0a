"""The records of an input file, by SplitType: the whole file, lines, RecordIO frames or TFRecord frames."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

RECORDIO_MAGIC = 0xCED7230A
_RECORDIO_HEAD = struct.Struct("<II")
_RECORDIO_LENGTH = (1 << 29) - 1
_WHOLE, _LAST = 0, 3
_TFRECORD_HEAD = struct.Struct("<Q")
_CRC_BYTES = 4


class InvalidInput(Exception):
    """An input file that cannot be split or sent as the job asks; the message says where and what to do."""


def whole(content: bytes) -> Iterator[bytes]:
    """``SplitType`` None: the file is one record."""
    yield content


def lines(content: bytes) -> Iterator[bytes]:
    """``SplitType`` Line: lines without their ends; text after the last line end is a record too."""
    pieces = content.split(b"\n")
    if pieces and not pieces[-1]:
        pieces.pop()
    for piece in pieces:
        yield piece.removesuffix(b"\r")


def recordio(content: bytes) -> Iterator[bytes]:
    """``SplitType`` RecordIO: frames with their headers; the parts of a multi-part record stay together.

    Raises InvalidInput.
    """
    at = begun = 0
    while at < len(content):
        if len(content) - at < _RECORDIO_HEAD.size:
            raise InvalidInput(f"RecordIO: {len(content) - at} bytes are left at byte {at}, a record begins with 8")
        magic, word = _RECORDIO_HEAD.unpack_from(content, at)
        if magic != RECORDIO_MAGIC:
            raise InvalidInput(
                f"RecordIO: expected {RECORDIO_MAGIC:#x} at byte {at}, got {magic:#x}; is the file RecordIO?"
            )
        at += _RECORDIO_HEAD.size + -(-(word & _RECORDIO_LENGTH) // 4) * 4
        if at > len(content):
            raise InvalidInput(f"RecordIO: the file ends inside of the record at byte {begun}")
        if word >> 29 in (_WHOLE, _LAST):
            yield content[begun:at]
            begun = at
    if begun != at:
        raise InvalidInput(f"RecordIO: the record at byte {begun} has no last part")


def tfrecord(content: bytes) -> Iterator[bytes]:
    """``SplitType`` TFRecord: frames with length and checksums; the container checks the checksums.

    Raises InvalidInput.
    """
    at = 0
    while at < len(content):
        if len(content) - at < _TFRECORD_HEAD.size:
            raise InvalidInput(f"TFRecord: {len(content) - at} bytes are left at byte {at}, a record begins with 12")
        end = at + _TFRECORD_HEAD.size + _CRC_BYTES + _TFRECORD_HEAD.unpack_from(content, at)[0] + _CRC_BYTES
        if end > len(content):
            raise InvalidInput(f"TFRecord: the file ends inside of the record at byte {at}; is the file TFRecord?")
        yield content[at:end]
        at = end


SPLIT: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "None": whole,
    "Line": lines,
    "RecordIO": recordio,
    "TFRecord": tfrecord,
}


def payloads(records: Iterable[bytes], split: str, strategy: str, payload_bytes: int | None) -> Iterator[list[bytes]]:
    """The records of each request: one with SingleRecord, up to ``payload_bytes`` with MultiRecord.

    ``payload_bytes`` None: no limit, so that MultiRecord makes one request of the whole file. Raises InvalidInput for
    a record that is larger than the limit.
    """
    end = 1 if split == "Line" else 0
    batch: list[bytes] = []
    size = 0
    for number, record in enumerate(records):
        length = len(record) + end
        if payload_bytes is not None and length > payload_bytes:
            what = "the file" if split == "None" else f"record {number}"
            raise InvalidInput(f"{what} has {length} bytes; MaxPayloadInMB allows {payload_bytes}: raise it, or split")
        full = payload_bytes is not None and size + length > payload_bytes
        if batch and (full or strategy == "SingleRecord"):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


def joined(batch: list[bytes], split: str) -> bytes:
    """The body of a request that holds these records."""
    return b"".join(record + b"\n" for record in batch) if split == "Line" else b"".join(batch)
