"""The framing of RecordIO: a magic number, flags and a length, the bytes, padding to four (MXNet's and SageMaker's).

A record that holds the magic number at a multiple of four is cut there, so that a tool may split a file at the magic
number. The parts have flags (first, middle, last); the number between two parts is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from ..errors import MalformedInput

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
_HEAD = struct.Struct("<II")
HEAD_BYTES = _HEAD.size
_LENGTH_BITS = 29
_LENGTH_MASK = (1 << _LENGTH_BITS) - 1
WHOLE, FIRST, MIDDLE, LAST = range(4)


def read_frames(body: bytes) -> Iterator[tuple[int, memoryview]]:
    """(byte at which it begins, record) for every record of a body; views of it unless a record came in parts.

    Raises MalformedInput with the byte where the framing breaks.
    """
    view = memoryview(body)
    at = begun = 0
    parts: list[memoryview | bytes] = []
    while at < len(body):
        if len(body) - at < _HEAD.size:
            raise MalformedInput(f"RecordIO: {len(body) - at} bytes are left at byte {at}, a record begins with 8")
        magic, word = _HEAD.unpack_from(body, at)
        flag, length = word >> _LENGTH_BITS, word & _LENGTH_MASK
        if magic != MAGIC:
            raise MalformedInput(f"RecordIO: expected the magic number {MAGIC:#x} at byte {at}, got {magic:#x}")
        if flag > LAST or (flag in (WHOLE, FIRST)) == bool(parts):
            raise MalformedInput(
                f"RecordIO: the part at byte {at} has flag {flag}, which does not follow what was before"
            )
        start = at + _HEAD.size
        end = start + length
        padded = start + -(-length // 4) * 4
        if padded > len(body):
            raise MalformedInput(
                f"RecordIO: the record at byte {at} announces {length} bytes, padded to {padded - start}, and "
                f"{len(body) - start} follow"
            )
        if flag == WHOLE:
            yield at, view[start:end]
        else:
            begun = at if flag == FIRST else begun
            parts += [view[start:end]] if flag == FIRST else [MAGIC_BYTES, view[start:end]]
            if flag == LAST:
                yield begun, memoryview(b"".join(parts))
                parts = []
        at = padded
    if parts:
        raise MalformedInput(f"RecordIO: the record at byte {begun} has no last part")


def write_frames(records: Iterable[bytes]) -> bytes:
    """The bytes of framed records."""
    out: list[bytes] = []
    for record in records:
        parts = _cut(record)
        for index, part in enumerate(parts):
            flag = WHOLE
            if len(parts) > 1:
                flag = FIRST if index == 0 else LAST if index == len(parts) - 1 else MIDDLE
            out += (_HEAD.pack(MAGIC, flag << _LENGTH_BITS | len(part)), part, bytes(-len(part) % 4))
    return b"".join(out)


def _cut(record: bytes) -> list[bytes]:
    """The parts of a record between the magic numbers at multiples of four."""
    parts, begin, found = [], 0, record.find(MAGIC_BYTES)
    while found >= 0:
        if found % 4:
            found = record.find(MAGIC_BYTES, found + 1)
            continue
        parts.append(record[begin:found])
        begin = found + 4
        found = record.find(MAGIC_BYTES, begin)
    return [*parts, record[begin:]]
