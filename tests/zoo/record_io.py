"""RecordIO bodies of the zoo's client: one record a row, written from the descriptions of RecordIO and protobuf.

Sources: "Common Data Formats for Training" in the SageMaker developer guide, and "Encoding" of protobuf.dev.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Tensors

MAGIC = 0xCED7230A
FEATURE_FIELDS = {"float32": 2, "float64": 3, "int32": 7, "object": 9}
"""Field of the message Value by the dtype of its tensor."""


def record_body(inputs: Tensors) -> bytes:
    """All rows; every input has one entry for each row."""
    rows = len(next(iter(inputs.values())))
    return b"".join(_frame(_record({name: array[row] for name, array in inputs.items()})) for row in range(rows))


def _frame(record: bytes) -> bytes:
    words = struct.pack("<I", MAGIC)
    assert words not in record, "a record that holds the magic number must be cut, which this client does not do"
    return words + struct.pack("<I", len(record)) + record + bytes(-len(record) % 4)


def _record(row: dict[str, NDArray[Any]]) -> bytes:
    return b"".join(_field(1, _field(1, name.encode()) + _field(2, _value(value))) for name, value in row.items())


def _value(value: Any) -> bytes:
    flat = np.asarray(value)
    name = "object" if isinstance(value, str) else flat.dtype.name
    if name == "object":
        return _field(9, b"".join(_field(1, text.encode()) for text in flat.reshape(-1).tolist()))
    numbers = flat.reshape(-1)
    packed = b"".join(map(_varint, numbers.tolist())) if name == "int32" else numbers.tobytes()
    shape = b"".join(_varint(size) for size in flat.shape)
    return _field(FEATURE_FIELDS[name], _field(1, packed) + (_field(3, shape) if flat.ndim > 1 else b""))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
