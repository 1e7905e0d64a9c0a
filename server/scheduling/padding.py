"""Padding: arrays of different lengths are joined to one batch, and the outputs are cut back to each length."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import MalformedInput
from ..tensors import Array
from .batch import Slice


@dataclass(frozen=True, slots=True)
class PaddedInput:
    """Input number ``index`` is filled up with ``value`` along ``axis`` (counted with the batch axis)."""

    index: int
    axis: int
    value: float


@dataclass(frozen=True, slots=True)
class Padding:
    """One variable axis that several inputs share, such as the length of a text.

    ``outputs`` are (index, axis) of the outputs that have that axis too: there the padding is cut off again.
    """

    inputs: tuple[PaddedInput, ...]
    outputs: tuple[tuple[int, int], ...] = ()

    def length(self, arrays: Sequence[Array]) -> int:
        """The length of the padded axis. Raises MalformedInput when the inputs disagree about it."""
        lengths = {arrays[one.index].shape[one.axis] for one in self.inputs}
        if len(lengths) > 1:
            raise MalformedInput(f"the inputs must have one length in common, they have {sorted(lengths)}")
        return int(lengths.pop())

    def shape(self, arrays: Sequence[Array]) -> Hashable:
        """All sizes but those of the batch axis and of the padded axis; requests with equal shape may share a run."""
        axes = {one.index: one.axis for one in self.inputs}
        return tuple(
            tuple(size for axis, size in enumerate(array.shape) if axis not in (0, axes.get(index)))
            for index, array in enumerate(arrays)
        )

    def join(self, slices: Sequence[Slice], length: int) -> tuple[Array, ...]:
        """The rows of all slices, padded to ``length``."""
        padded = {one.index: one for one in self.inputs}
        joined: list[Array] = []
        for index in range(len(slices[0][0].arrays)):
            rows = [request.arrays[index][start:stop] for request, start, stop in slices]
            joined.append(_fill(rows, padded[index], length) if index in padded else np.concatenate(rows))
        return tuple(joined)

    def cut(self, outputs: Sequence[Array], length: int) -> list[Array]:
        """The outputs of one request without the padding."""
        axes = dict(self.outputs)
        return [
            array[(slice(None),) * axes[index] + (slice(length),)] if index in axes else array
            for index, array in enumerate(outputs)
        ]

    def resized(self, arrays: Sequence[Array], length: int) -> list[Array]:
        """Arrays of that length whose values occur in the given ones: inputs for measurements."""
        axes = {one.index: one.axis for one in self.inputs}
        return [
            np.take(array, np.arange(length) % array.shape[axes[index]], axis=axes[index]) if index in axes else array
            for index, array in enumerate(arrays)
        ]


def _fill(rows: Sequence[Array], one: PaddedInput, length: int) -> Array:
    first = rows[0]
    shape = (sum(len(part) for part in rows), *first.shape[1:])
    shape = (*shape[: one.axis], length, *shape[one.axis + 1 :])
    filled = np.full(shape, one.value, first.dtype)
    offset = 0
    for part in rows:
        inside = (slice(None),) * (one.axis - 1) + (slice(part.shape[one.axis]),)
        filled[(slice(offset, offset + len(part)), *inside)] = part
        offset += len(part)
    return filled
