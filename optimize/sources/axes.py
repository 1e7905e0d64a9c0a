"""Free axes: the input sizes that may differ between requests, and the probes that verify them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.tensors import Array

from ..errors import BadInput
from ..evaluation.dataset import Dataset

BATCH = "batch"

SHARES = (0.5, 0.25)
"""Lengths to try besides the length of the data, as fractions of it. Rows are cut; no values are invented."""

PAIR = 2
"""Rows of a probe at a shorter length. A single row would hide an axis that was mistaken for the batch."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Axis ``position`` of ``input`` is free; position 0 is the batch. Axes of one ``name`` have one size."""

    input: str
    position: int
    name: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Rows of the data at one batch size. ``lengths`` are the sizes of the free axes."""

    batch_size: int
    lengths: Mapping[str, int]
    inputs: Mapping[str, Array]

    def __str__(self) -> str:
        sizes = [f"batch size {self.batch_size}", *(f"{name} {size}" for name, size in self.lengths.items())]
        return ", ".join(sizes)


def parse(text: str) -> tuple[Axis, ...]:
    """Parse ``ids:1=tokens,mask:1=tokens``: input, axis, name. Raises BadInput."""
    axes = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([^:=]+):(\d+)=([A-Za-z_]\w*)", part)
        if match is None:
            raise BadInput(f"--dynamic {part!r}: write input:axis=name, for example ids:1=tokens,mask:1=tokens")
        name, position = match[3], int(match[2])
        if position == 0 or name == BATCH:
            raise BadInput(f"--dynamic {part!r}: axis 0 is the batch and is always free")
        axes.append(Axis(match[1], position, name))
    return tuple(axes)


def lengths(axes: Sequence[Axis], data: Dataset) -> dict[str, int]:
    """Return the size of every free axis in ``data``.

    Raises BadInput if an axis does not exist, or if axes with the same name differ in size.
    """
    sizes: dict[str, int] = {}
    for axis in axes:
        if axis.input not in data.inputs:
            raise BadInput(f"--dynamic names {axis.input!r}, the model's inputs are {', '.join(data.inputs)}")
        shape = data.inputs[axis.input].shape
        if axis.position >= len(shape):
            raise BadInput(f"{axis.input!r} has no axis {axis.position}: its rows in the data are {list(shape[1:])}")
        size = sizes.setdefault(axis.name, shape[axis.position])
        if size != shape[axis.position]:
            raise BadInput(
                f"axis {axis.name!r} is {size} in one input of the data and {shape[axis.position]} in {axis.input!r}: "
                "give the axes different names if their sizes may differ"
            )
    return sizes


def probes(data: Dataset, axes: Sequence[Axis], batch_sizes: Sequence[int]) -> tuple[Probe, ...]:
    """Return the rows that source and baseline are compared on: every batch size at full length, then shorter lengths.

    Each probe starts at a different row. Raises BadInput if the data is too short for a second length.
    """
    full = lengths(axes, data)
    chosen = [Probe(size, full, data.batch(size, size)) for size in sorted(set(batch_sizes))]
    shorter = {name: sorted({max(1, round(size * share)) for share in SHARES} - {size}) for name, size in full.items()}
    for name, sizes in shorter.items():
        if not sizes:
            raise BadInput(
                f"axis {name!r} has size {full[name]} in the data, so no other size can be verified: give longer rows"
            )
    for step in range(max(map(len, shorter.values()), default=0)):
        now = {name: sizes[min(step, len(sizes) - 1)] for name, sizes in shorter.items()}
        rows = data.batch(PAIR, PAIR + step)
        chosen.append(Probe(PAIR, now, {name: _cut(array, name, axes, now) for name, array in rows.items()}))
    return tuple(chosen)


def shorter(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """Return the probes whose lengths differ from those of the data."""
    return tuple(probe for probe in probes if probe.lengths != probes[0].lengths)


def _cut(array: Array, name: str, axes: Sequence[Axis], now: Mapping[str, int]) -> Array:
    for axis in axes:
        if axis.input == name:
            array = np.take(array, np.arange(now[axis.name]), axis.position)
    return np.ascontiguousarray(array)


def symbols(axes: Sequence[Axis], inputs: Sequence[str]) -> dict[str, dict[int, str]]:
    """Return, for each input, the names of its free axes by position, including the batch. The exporters take this."""
    return {name: {0: BATCH} | {axis.position: axis.name for axis in axes if axis.input == name} for name in inputs}
