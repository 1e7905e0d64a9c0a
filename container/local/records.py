"""The records of an input file: whole, by lines, or in the frames of RecordIO and TFRecord, which stay as they are."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

RECORDIO_MAGIC = 0xCED7230A
_RECORDIO_HEAD = struct.Struct("<II")
_RECORDIO_LENGTH = (1 << 29) - 1
_WHOLE, _LAST = 0, 3
_TFRECORD_HEAD = struct.Struct("<Q")
_CRC_BYTES = 4


class BadInput(Exception):
    """An input file that cannot be cut or sent as the job says; the message says where and what to do."""


def whole(content: bytes) -> Iterator[bytes]:
    """``SplitType`` None."""
    yield content


def lines(content: bytes) -> Iterator[bytes]:
    """``SplitType`` Line: without their ends; what follows the last one is a record if there is anything."""
    pieces = content.split(b"\n")
    if pieces and not pieces[-1]:
        pieces.pop()
    for piece in pieces:
        yield piece.removesuffix(b"\r")


def recordio(content: bytes) -> Iterator[bytes]:
    """``SplitType`` RecordIO: frames with their heads; one that was cut at a magic number stays together.

    Raises BadInput.
    """
    at = begun = 0
    while at < len(content):
        if len(content) - at < _RECORDIO_HEAD.size:
            raise BadInput(f"RecordIO: {len(content) - at} bytes are left at byte {at}, a record begins with 8")
        magic, word = _RECORDIO_HEAD.unpack_from(content, at)
        if magic != RECORDIO_MAGIC:
            raise BadInput(
                f"RecordIO: expected {RECORDIO_MAGIC:#x} at byte {at}, got {magic:#x}; is the file RecordIO?"
            )
        at += _RECORDIO_HEAD.size + -(-(word & _RECORDIO_LENGTH) // 4) * 4
        if at > len(content):
            raise BadInput(f"RecordIO: the file ends inside of the record at byte {begun}")
        if word >> 29 in (_WHOLE, _LAST):
            yield content[begun:at]
            begun = at
    if begun != at:
        raise BadInput(f"RecordIO: the record at byte {begun} has no last part")


def tfrecord(content: bytes) -> Iterator[bytes]:
    """``SplitType`` TFRecord: frames with length and check sums, which are left for the container to check.

    Raises BadInput.
    """
    at = 0
    while at < len(content):
        if len(content) - at < _TFRECORD_HEAD.size:
            raise BadInput(f"TFRecord: {len(content) - at} bytes are left at byte {at}, a record begins with 12")
        end = at + _TFRECORD_HEAD.size + _CRC_BYTES + _TFRECORD_HEAD.unpack_from(content, at)[0] + _CRC_BYTES
        if end > len(content):
            raise BadInput(f"TFRecord: the file ends inside of the record at byte {at}; is the file TFRecord?")
        yield content[at:end]
        at = end


SPLIT: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "None": whole,
    "Line": lines,
    "RecordIO": recordio,
    "TFRecord": tfrecord,
}


def payloads(records: Iterable[bytes], split: str, strategy: str, payload_bytes: int | None) -> Iterator[list[bytes]]:
    """The records of each request: one with SingleRecord, as many as ``payload_bytes`` hold with MultiRecord.

    ``payload_bytes`` None: no limit, so that MultiRecord is one request for the whole file. Raises BadInput for a
    record that is larger than that.
    """
    end = 1 if split == "Line" else 0
    batch: list[bytes] = []
    size = 0
    for number, record in enumerate(records):
        length = len(record) + end
        if payload_bytes is not None and length > payload_bytes:
            what = "the file" if split == "None" else f"record {number}"
            raise BadInput(f"{what} has {length} bytes; MaxPayloadInMB allows {payload_bytes}: raise it, or split")
        full = payload_bytes is not None and size + length > payload_bytes
        if batch and (full or strategy == "SingleRecord"):
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += length
    if batch:
        yield batch


def joined(batch: list[bytes], split: str) -> bytes:
    """The body of a request."""
    return b"".join(record + b"\n" for record in batch) if split == "Line" else b"".join(batch)
