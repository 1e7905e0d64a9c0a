"""Ragged values: rows of different lengths, as a tokenizer makes them, between two steps of a pipeline.

They are object arrays [rows] of one array for each row. Text is an object array too; the datatype of its spec tells
the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import UnprocessableInput
from .tensors import Array, TensorSpec

OBJECT_BYTES = 64
"""Usual memory of a short string with its reference."""

COUNTED = 1_000
"""Objects whose sizes are added up; the size of more is estimated."""


def ragged(rows: Sequence[Array]) -> Array:
    """An object array [rows] that holds these arrays."""
    whole = np.empty(len(rows), object)
    for index, row in enumerate(rows):
        whole[index] = row
    return whole


def is_ragged(array: Array, spec: TensorSpec) -> bool:
    return array.dtype.kind == "O" and spec.dtype.itemsize > 0


def filled(array: Array, spec: TensorSpec, axis: int, value: float) -> Array:
    """A rectangular array: rows padded with ``value`` along ``axis`` (counted with the batch axis) to the longest."""
    longest = max((row.shape[axis - 1] for row in array), default=0)
    first = array[0].shape if len(array) else tuple(max(size, 0) for size in spec.shape[1:])
    shape = (len(array), *first[: axis - 1], longest, *first[axis:])
    whole = np.full(shape, value, spec.dtype.numpy)
    lead = (slice(None),) * (axis - 1)
    for target, row in zip(whole, array, strict=True):
        target[(*lead, slice(row.shape[axis - 1]))] = row
    return whole


def stacked(array: Array, spec: TensorSpec, step: str) -> Array:
    """A rectangular array for a step that does not pad. Raises UnprocessableInput for rows of different shapes."""
    if len({row.shape for row in array}) > 1:
        raise UnprocessableInput(
            f"the rows of this request differ in length, and step {step!r} takes one length: send them one by one"
        )
    return np.stack(list(array)) if len(array) else np.empty((0, *(0,) * (len(spec.shape) - 1)), spec.dtype.numpy)


def lengths(array: Array, axis: int) -> list[int]:
    """The length of each row of a ragged array along ``axis``, counted with the batch axis."""
    return [int(row.shape[axis - 1]) for row in array]


def held_bytes(arrays: Sequence[Array]) -> int:
    """Bytes of arrays including the objects that they refer to, which ``nbytes`` does not count."""
    total = 0
    for array in arrays:
        if array.dtype.kind != "O":
            total += array.nbytes
            continue
        for one in array.flat:
            total += one.nbytes if isinstance(one, np.ndarray) else len(one)
    return total


def size_of(arrays: Sequence[Array]) -> int:
    """The same, estimated where there are many objects."""
    return sum(
        OBJECT_BYTES * one.size if one.dtype.kind == "O" and one.size > COUNTED else held_bytes([one]) for one in arrays
    )
