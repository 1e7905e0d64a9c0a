"""Free axes: which sizes of a model's inputs may change from request to request, and the rows that prove it."""

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
"""The lengths that are tried besides the one in the data, as shares of it. Real rows are cut, never invented."""

PAIR = 2
"""Rows in a run at a shorter length. One would hide an axis that was mistaken for the batch."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Axis ``position`` (0 is the batch) of ``input`` is free; axes with one ``name`` always have one size."""

    input: str
    position: int
    name: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Real rows at one batch size; ``lengths`` are the sizes of the free axes in it."""

    batch_size: int
    lengths: Mapping[str, int]
    inputs: Mapping[str, Array]

    def __str__(self) -> str:
        sizes = [f"batch size {self.batch_size}", *(f"{name} {size}" for name, size in self.lengths.items())]
        return ", ".join(sizes)


def parse(text: str) -> tuple[Axis, ...]:
    """``ids:1=tokens,mask:1=tokens``: input, axis, name. Raises BadInput."""
    axes = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([^:=]+):(\d+)=([A-Za-z_]\w*)", part)
        if match is None:
            raise BadInput(f"--dynamic {part!r}: write input:axis=name, for example ids:1=tokens,mask:1=tokens")
        name, position = match[3], int(match[2])
        if position == 0 or name == BATCH:
            raise BadInput(f"--dynamic {part!r}: axis 0 is the batch, which is free anyway")
        axes.append(Axis(match[1], position, name))
    return tuple(axes)


def lengths(axes: Sequence[Axis], data: Dataset) -> dict[str, int]:
    """The size of every free axis in ``data``.

    Raises BadInput when an axis is not there, or when axes of one name differ in size.
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
                "give them different names if they may differ"
            )
    return sizes


def probes(data: Dataset, axes: Sequence[Axis], batch_sizes: Sequence[int]) -> tuple[Probe, ...]:
    """What source and reference are compared on: all batch sizes at the data's own lengths, then shorter lengths.

    Every probe starts at another row. Raises BadInput when the data cannot be cut to a second length.
    """
    full = lengths(axes, data)
    chosen = [Probe(size, full, data.batch(size, size)) for size in sorted(set(batch_sizes))]
    shorter = {name: sorted({max(1, round(size * share)) for share in SHARES} - {size}) for name, size in full.items()}
    for name, sizes in shorter.items():
        if not sizes:
            raise BadInput(f"axis {name!r} has size {full[name]} in the data: nothing can be proven about other sizes")
    for step in range(max(map(len, shorter.values()), default=0)):
        now = {name: sizes[min(step, len(sizes) - 1)] for name, sizes in shorter.items()}
        rows = data.batch(PAIR, PAIR + step)
        chosen.append(Probe(PAIR, now, {name: _cut(array, name, axes, now) for name, array in rows.items()}))
    return tuple(chosen)


def shorter(probes: Sequence[Probe]) -> tuple[Probe, ...]:
    """Those at other lengths than the data's own."""
    return tuple(probe for probe in probes if probe.lengths != probes[0].lengths)


def _cut(array: Array, name: str, axes: Sequence[Axis], now: Mapping[str, int]) -> Array:
    for axis in axes:
        if axis.input == name:
            array = np.take(array, np.arange(now[axis.name]), axis.position)
    return np.ascontiguousarray(array)


def symbols(axes: Sequence[Axis], inputs: Sequence[str]) -> dict[str, dict[int, str]]:
    """By input, the names of its free axes with the batch: what exporters ask for."""
    return {name: {0: BATCH} | {axis.position: axis.name for axis in axes if axis.input == name} for name in inputs}
