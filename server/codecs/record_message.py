"""The message of a RecordIO record: SageMaker's ``Record`` in the wire format of Protocol Buffers.

::

    message Record  { map<string, Value> features = 1; map<string, Value> label = 2; ... }
    message Value   { Float32Tensor float32_tensor = 2; Float64Tensor float64_tensor = 3; Int32Tensor int32_tensor = 7;
                      Bytes bytes = 9; }                                     // one field only
    message *Tensor { repeated values = 1; repeated uint64 keys = 2; repeated uint64 shape = 3; }
    message Bytes   { repeated bytes value = 1; optional string content_type = 2; }

Decoding is bounded: the nesting is fixed, and no field is longer than the record.
Source of the wire format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import MalformedInput
from ..tensors import Array

VARINT, FIXED64, SIZED, FIXED32 = 0, 1, 2, 5
FEATURES, LABEL = 1, 2
KEY, VALUE = 1, 2
VALUES, KEYS, SHAPE = 1, 2, 3
BYTES_FIELD = 9
TENSORS: dict[int, np.dtype[Any]] = {2: np.dtype("<f4"), 3: np.dtype("<f8"), 7: np.dtype("<i4")}
"""Field of ``Value`` to the dtype of its tensor."""
FIELD_OF = {dtype: field for field, dtype in TENSORS.items()}
_LONGEST_VARINT = 10


@dataclass(frozen=True, slots=True)
class Value:
    """One ``Value``: ``values`` flat (float32, float64, int32, or bytes objects); ``keys`` and ``shape`` as sent, empty
    if they were not sent."""

    values: Array
    keys: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()


def read_record(record: memoryview) -> dict[str, Value]:
    """The features of a record; labels and unknown fields are skipped. Raises MalformedInput with the byte."""
    features: dict[str, Value] = {}
    for field, kind, at, piece in _fields(record, 0):
        if field == FEATURES:
            _expect(kind, SIZED, at)
            name, value = _read_entry(piece, at)
            features[name] = value
    return features


def write_record(label: Mapping[str, Value]) -> bytes:
    """A record with these labels, as in the responses of SageMaker's algorithms."""
    return b"".join(
        _sized(LABEL, _sized(KEY, name.encode()) + _sized(VALUE, _value(one))) for name, one in label.items()
    )


def _read_entry(entry: memoryview, offset: int) -> tuple[str, Value]:
    """Key and value of a map entry."""
    name, value = "", Value(np.empty(0, np.float32))
    for field, kind, at, piece in _fields(entry, offset):
        if field == KEY:
            _expect(kind, SIZED, at)
            try:
                name = str(piece, "utf-8")
            except UnicodeDecodeError as error:
                raise MalformedInput(f"the name of a feature is not UTF-8 at byte {at} of its record") from error
        elif field == VALUE:
            _expect(kind, SIZED, at)
            value = _read_value(piece, at)
    return name, value


def _read_value(message: memoryview, offset: int) -> Value:
    found = None
    for field, kind, at, piece in _fields(message, offset):
        if field in TENSORS:
            _expect(kind, SIZED, at)
            found = _read_tensor(piece, at, TENSORS[field])
        elif field == BYTES_FIELD:
            _expect(kind, SIZED, at)
            found = _read_bytes(piece, at)
    if found is None:
        raise MalformedInput(f"a feature holds no tensor at byte {offset} of its record")
    return found


def _read_tensor(message: memoryview, offset: int, dtype: np.dtype[Any]) -> Value:
    """The tensor of packed lists, or of the older form with one value a field."""
    values: list[Array] = []
    keys: list[int] = []
    shape: list[int] = []
    for field, kind, at, piece in _fields(message, offset):
        if field == VALUES:
            values.append(_numbers(piece, kind, at, dtype))
        elif field in (KEYS, SHAPE):
            (keys if field == KEYS else shape).extend(
                _varints(piece, at).tolist() if kind == SIZED else [_single(piece, kind, at)]
            )
    flat = values[0] if len(values) == 1 else np.concatenate(values) if values else np.empty(0, dtype)
    return Value(flat, tuple(keys), tuple(shape))


def _numbers(piece: memoryview, kind: int, at: int, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "i":
        raw = _varints(piece, at) if kind == SIZED else [_single(piece, kind, at)]
        # A negative number is sent as 64 bits of two's complement; its lower half is the int32.
        return np.array(raw, np.uint64).astype(np.uint32).view(np.int32)
    if kind != SIZED:
        _expect(kind, FIXED32 if dtype.itemsize == 4 else FIXED64, at)
    if len(piece) % dtype.itemsize:
        raise MalformedInput(f"{len(piece)} bytes are no list of {dtype.name} at byte {at} of the record")
    return np.frombuffer(piece, dtype)


def _read_bytes(message: memoryview, offset: int) -> Value:
    values = []
    for field, kind, at, piece in _fields(message, offset):
        if field == 1:
            _expect(kind, SIZED, at)
            values.append(bytes(piece))
    array = np.empty(len(values), object)
    array[:] = values
    return Value(array)


def _fields(message: memoryview, offset: int) -> Iterator[tuple[int, int, int, memoryview]]:
    """(number, wire type, byte of the record, content) of every field; the content of a varint is its bytes."""
    at = 0
    while at < len(message):
        here = offset + at
        tag, at = _varint(message, at, offset)
        field, kind = tag >> 3, tag & 7
        begin = at
        if kind == VARINT:
            _, at = _varint(message, at, offset)
        elif kind == SIZED:
            length, begin = _varint(message, at, offset)
            at = begin + length
        elif kind in (FIXED32, FIXED64):
            at += 4 if kind == FIXED32 else 8
        else:
            raise MalformedInput(f"wire type {kind} is not read at byte {here} of the record")
        if field == 0 or at > len(message):
            fault = (
                "a field has number 0" if field == 0 else f"a field of {at - begin} bytes does not end in its message"
            )
            raise MalformedInput(f"{fault}, at byte {here} of the record")
        yield field, kind, offset + begin, message[begin:at]


def _varint(message: memoryview, at: int, offset: int) -> tuple[int, int]:
    """A number of up to 64 bits, and the index of the next byte."""
    if at < len(message) and message[at] < 0x80:
        return message[at], at + 1
    number = 0
    for index, byte in enumerate(message[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, at + index + 1
    raise MalformedInput(f"a number does not end at byte {offset + at} of the record")


def _varints(packed: memoryview, offset: int) -> Array:
    """The numbers of a packed list, uint64. Computed for all at once: a record may hold millions."""
    data = np.frombuffer(packed, np.uint8)
    last = np.flatnonzero(data < 0x80)
    if len(last) == len(data):
        return data.astype(np.uint64)
    first = np.concatenate(([0], last[:-1] + 1)) if len(last) else np.zeros(1, np.int64)
    sizes = last - first + 1 if len(last) else np.array([len(data)])
    wrong = np.flatnonzero(sizes > _LONGEST_VARINT)
    if data[-1] >= 0x80 or len(wrong):
        begin = first[wrong[0]] if len(wrong) else last[-1] + 1 if len(last) else 0
        raise MalformedInput(f"a number does not end at byte {offset + int(begin)} of the record")
    numbers = np.zeros(len(last), np.uint64)
    for place in range(int(sizes.max())):
        longer = np.flatnonzero(sizes > place)
        part = (data[first[longer] + place] & 0x7F).astype(np.uint64)
        numbers[longer] |= part << np.uint64(7 * place)
    return numbers


def _single(piece: memoryview, kind: int, at: int) -> int:
    _expect(kind, VARINT, at)
    return _varint(piece, 0, at)[0]


def _expect(kind: int, wanted: int, at: int) -> None:
    if kind != wanted:
        raise MalformedInput(f"a field has wire type {kind} instead of {wanted} at byte {at} of the record")


def _value(one: Value) -> bytes:
    if one.values.dtype.kind == "O":
        return _sized(BYTES_FIELD, b"".join(_sized(1, raw) for raw in one.values.tolist()))
    dtype = one.values.dtype.newbyteorder("<")
    packed = one.values.astype(dtype, copy=False).tobytes() if dtype.kind == "f" else _packed(one.values.tolist())
    tensor = _sized(VALUES, packed)
    if one.keys:
        tensor += _sized(KEYS, _packed(one.keys))
    if one.shape:
        tensor += _sized(SHAPE, _packed(one.shape))
    return _sized(FIELD_OF[dtype], tensor)


def _packed(numbers: list[int] | tuple[int, ...]) -> bytes:
    return b"".join(map(_number, numbers))


def _number(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _sized(field: int, content: bytes) -> bytes:
    return _number(field << 3 | SIZED) + _number(len(content)) + content
