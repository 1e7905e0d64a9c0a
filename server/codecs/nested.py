"""Nested lists to tensors: one packed write for each row, and an error with the exact place if a value does not fit.

``struct`` is faster than an array constructor, and stricter: it refuses strings, null, floats for integers and numbers
out of range. It accepts a boolean for a number; the caller therefore says whether the body may hold booleans.
"""

from __future__ import annotations

import binascii
import math
import struct
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import orjson

from ..errors import MalformedInput
from ..tensors import RAW_BYTES, Array, DType, TensorSpec, describe_shape

# "=": native order, standard sizes, and overflow is an error; without it an overflowing float32 becomes infinite.
_CODES = {
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "FP32": "f", "FP64": "d", "BF16": "f",
}  # fmt: skip

_UNFIT = (struct.error, OverflowError, TypeError, ValueError, LookupError)
_SHOWN_CHARACTERS = 40
_PACKED = 50_000
_SKIPPED = 1_000


def may_hold_booleans(body: bytes) -> bool:
    """Whether a JSON text may hold ``true`` or ``false``. The search for single bytes comes first: it is fast."""
    return (b"u" in body and b"true" in body) or (b"l" in body and b"false" in body)


class NestedReader:
    """Reads the nested lists of one input."""

    __slots__ = ("_code", "_dtype", "_height", "_nullable", "_pack", "_width", "spec")

    def __init__(self, spec: TensorSpec) -> None:
        self.spec = spec
        self._dtype = spec.dtype.numpy
        self._code = _CODES.get(spec.dtype.name)
        self._nullable = spec.missing and self._dtype.kind == "f"
        fixed_rows = len(spec.shape) == 2 and spec.shape[1] > 0 and self._code is not None
        self._height, self._width = spec.shape if fixed_rows else (0, 0)
        self._pack = struct.Struct(f"={self._width}{self._code}").pack if fixed_rows else None

    def read(self, nested: Any, booleans: bool = True) -> Array:
        """The array of ``nested``, of the spec's dtype and a shape it accepts; it may be read-only.

        ``None`` becomes NaN if the input accepts missing values.

        ``booleans``: whether the lists could hold a boolean. Raises MalformedInput naming the first odd place.
        """
        array = self._attempt(nested)
        if array is None and self._nullable:
            array = self._attempt(_with_nan(nested, len(self.spec.shape)))
        return _checked(array, nested, self.spec, booleans)

    def read_flat(self, values: list[Any], booleans: bool = True) -> Array:
        """The array of shape [n] of a flat list, whatever the spec's shape. Raises MalformedInput."""
        array = self._attempt_flat(values)
        if array is None and self._nullable:
            array = self._attempt_flat(_with_nan(values, 1))
        if array is not None and not booleans:
            return array
        return _checked(array, values, replace(self.spec, shape=(len(values),)), booleans)

    def _attempt(self, nested: Any) -> Array | None:
        try:
            return self._read_rows(nested) if self._pack is not None else self._read_any(nested)
        except _UNFIT:
            return None

    def _attempt_flat(self, values: Any) -> Array | None:
        try:
            return self._from_flat(values)
        except _UNFIT:
            return None

    def _read_rows(self, rows: Any) -> Array:
        pack = self._pack
        assert pack is not None
        count = len(rows)
        if self._height not in (-1, count):
            raise ValueError
        data = pack(*rows[0]) if count == 1 else b"".join([pack(*row) for row in rows])
        return np.ndarray((count, self._width), self._dtype, data)

    def _read_any(self, nested: Any) -> Array:
        values, sizes = [nested], []
        for want in self.spec.shape:
            size = len(values[0]) if want == -1 and values else max(want, 0)
            if not all(type(value) is list and len(value) == size for value in values):
                raise ValueError
            sizes.append(size)
            values = values[0] if len(values) == 1 else list(chain.from_iterable(values))
        return self._from_flat(values).reshape(sizes)

    def _from_flat(self, values: list[Any]) -> Array:
        if self._code is not None:
            pieces = (values[begin : begin + _PACKED] for begin in range(0, len(values), _PACKED))
            data = b"".join([struct.pack(f"={len(piece)}{self._code}", *piece) for piece in pieces])
            return np.ndarray(len(values), self._dtype, data)
        if self._dtype.kind == "O":
            values = [_unpacked(value, self.spec.dtype) for value in values]
        allowed = (str, bytes) if self._dtype.kind == "O" else (bool, int)
        if not all(isinstance(value, allowed) for value in values):
            raise TypeError
        if self._dtype.kind != "O" and not all(value in (0, 1) for value in values):
            raise ValueError
        array = np.empty(len(values), self._dtype)
        array[:] = values
        return array


def _unpacked(value: Any, dtype: DType) -> Any:
    """The bytes of ``{"b64": "..."}``, TensorFlow Serving's form of bytes in JSON; any other value unchanged.

    For an input of text the bytes are decoded as UTF-8. Raises ValueError or TypeError for invalid ones.
    """
    if type(value) is not dict or value.keys() != {"b64"}:
        return value
    raw = binascii.a2b_base64(value["b64"], strict_mode=True)
    return raw if dtype is RAW_BYTES else raw.decode()


def _with_nan(nested: Any, rank: int) -> Any:
    """Nested lists with NaN in place of None at the depth ``rank``."""
    if type(nested) is not list:
        return nested
    if rank <= 1:
        return [math.nan if value is None else value for value in nested]
    return [_with_nan(value, rank - 1) for value in nested]


def depth(nested: Any) -> int:
    """The depth of nested lists, along their first elements."""
    levels = 0
    while type(nested) is list:
        levels += 1
        nested = nested[0] if nested else None
    return levels


def shown(value: Any) -> str:
    """A JSON value for an error message: its text, cut if it is long."""
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _checked(array: Array | None, nested: Any, spec: TensorSpec, booleans: bool) -> Array:
    """``array``, if it is valid. Raises MalformedInput; an empty array may come from a value that is not a list."""
    if array is None or booleans or array.size == 0:
        fault = _fault(nested, spec, 0, "", {})
        if fault is not None:
            raise MalformedInput(_with_shape(fault, nested, spec))
    if array is None:
        raise MalformedInput(f'input "{spec.name}" is not {spec.dtype.name} {describe_shape(spec.shape)}')
    return array


def _fault(value: Any, spec: TensorSpec, axis: int, where: str, sizes: dict[int, int]) -> str | None:
    """The first fault of ``value`` as this axis of ``spec``, None if it fits. The recursion ends at the rank."""
    if axis == len(spec.shape):
        return _leaf_fault(value, spec, where)
    if type(value) is not list:
        return f"expected a list{_at(where)}, got {shown(value)}"
    want = spec.shape[axis]
    size = sizes.setdefault(axis, len(value)) if want == -1 else want
    if len(value) != size:
        return f"{_place(where)} has {len(value)} values, expected {size}"
    for begin in range(0, len(value), _SKIPPED):
        piece = value[begin : begin + _SKIPPED]
        if axis + 1 == len(spec.shape) and _all_numbers(piece, spec.dtype):
            continue
        for index, item in enumerate(piece, begin):
            fault = _fault(item, spec, axis + 1, f"{where}[{index}]", sizes)
            if fault is not None:
                return fault
    return None


def _all_numbers(piece: list[Any], dtype: DType) -> bool:
    """Whether all are plain numbers that fit: found faster together than one by one."""
    code = _CODES.get(dtype.name)
    if code is None or not set(map(type, piece)) <= ({int} if dtype.numpy.kind in "iu" else {int, float}):
        return False
    try:
        struct.pack(f"={len(piece)}{code}", *piece)
    except _UNFIT:
        return False
    return True


def _leaf_fault(value: Any, spec: TensorSpec, where: str) -> str | None:
    dtype = spec.dtype
    code = _CODES.get(dtype.name)
    if value is None and spec.missing and dtype.numpy.kind == "f":
        return None
    if value is None and dtype.numpy.kind == "f":
        word = f"a number ({dtype.name}); the model does not accept missing values here"
        return f"expected {word}{_at(where)}, got null"
    if code is None and dtype.numpy.kind == "O":
        fits, word = _unpacks(value, dtype), 'a string or {"b64": base64}'
    elif code is None:
        fits, word = isinstance(value, int) and value in (0, 1), "true or false"
    elif isinstance(value, bool) or not isinstance(value, int if dtype.numpy.kind in "iu" else (int, float)):
        fits, word = False, f"{'an integer' if dtype.numpy.kind in 'iu' else 'a number'} ({dtype.name})"
    else:
        fits, word = _packs(code, value), f"a number within the range of {dtype.name}"
    return None if fits else f"expected {word}{_at(where)}, got {shown(value)}"


def _unpacks(value: Any, dtype: DType) -> bool:
    try:
        return isinstance(_unpacked(value, dtype), str if dtype is not RAW_BYTES else (str, bytes))
    except _UNFIT:
        return False


def _packs(code: str, value: float) -> bool:
    try:
        struct.pack("=" + code, value)
    except _UNFIT:
        return False
    return True


def _with_shape(fault: str, nested: Any, spec: TensorSpec) -> str:
    have, value = [], nested
    while type(value) is list:
        have.append(len(value))
        value = value[0] if value else None
    if spec.accepts(tuple(have)):
        return f'input "{spec.name}": {fault}'
    return (
        f'input "{spec.name}" has shape {describe_shape(tuple(have))}, expected {describe_shape(spec.shape)}: {fault}'
    )


def _at(where: str) -> str:
    return f" at {where}" if where else ""


def _place(where: str) -> str:
    if not where:
        return "it"
    return f"row {where[1:-1]}" if where.count("[") == 1 else where
