"""Free axes: the input sizes that may differ between requests, and the probes that verify them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from server.tensors import Array

from ..errors import BadInput, OptimizeError
from ..evaluation.dataset import Dataset

BATCH = "batch"

EVERY = "all"
"""The value of ``--fixed`` that fixes every axis besides the batch."""

PLACEHOLDERS = re.compile(r"|\?+|-1|None|unk__\d+|dynamic_axes.*", re.IGNORECASE)
"""Axis names that exporters write for an unknown size. Two axes with such a name are not related."""

MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""Lengths are tried as multiples of these numbers, because pooling and patches need divisible sizes."""

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
    sizes: tuple[int, ...] = ()
    """The shorter sizes that the source runs at, in the order of the proof. Empty: not tried yet."""


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
    full, only = lengths(axes, data), data.layout.run_rows
    chosen = [Probe(size, full, data.batch(size, size)) for size in ([only] if only else sorted(set(batch_sizes)))]
    tried = {axis.name: axis.sizes for axis in axes if axis.sizes}
    shorter = {name: sorted(set(tried.get(name, _shares(size))) - {size}) for name, size in full.items()}
    for name, sizes in shorter.items():
        if not sizes:
            raise BadInput(
                f"axis {name!r} has size {full[name]} in the data, so no other size can be verified: give longer rows"
            )
    for step in range(max(map(len, shorter.values()), default=0)):
        now = {name: sizes[min(step, len(sizes) - 1)] for name, sizes in shorter.items()}
        rows = data.batch(PAIR, PAIR + step)
        chosen.append(Probe(only or PAIR, now, {name: _cut(array, name, axes, now) for name, array in rows.items()}))
    return tuple(chosen)


def _shares(size: int, multiple: int = 1) -> list[int]:
    return [max(multiple, multiple * round(size * share / multiple)) for share in SHARES]


def distinct(axes: Sequence[Axis], data: Dataset) -> tuple[Axis, ...]:
    """Give axes their own names where a file uses a placeholder, a bad name, or one name for several sizes.

    Axes of absent inputs keep their names. The new name is ``input_position``.
    """
    sizes: dict[str, set[int]] = {}
    for axis in axes:
        shape = data.inputs[axis.input].shape
        if axis.position < len(shape):
            sizes.setdefault(axis.name, set()).add(shape[axis.position])
    return tuple(
        replace(axis, name=re.sub(r"\W", "_", f"{axis.input}_{axis.position}"))
        if PLACEHOLDERS.fullmatch(axis.name) or len(sizes.get(axis.name, ())) > 1 or axis.name == BATCH
        else replace(axis, name=re.sub(r"\W", "_", axis.name))
        for axis in axes
    )


def without(axes: Sequence[Axis], fixed: Sequence[str]) -> tuple[Axis, ...]:
    """Drop the axes that ``--fixed`` names, by axis name or as ``input:position``. Raises BadInput for other names."""
    known = {EVERY} | {axis.name for axis in axes} | {f"{axis.input}:{axis.position}" for axis in axes}
    unknown = sorted(set(fixed) - known)
    if unknown:
        listed = ", ".join(sorted(known - {EVERY})) or "none"
        raise BadInput(f"--fixed {unknown[0]!r} is not a free axis of the model; its free axes are {listed}")
    if EVERY in fixed:
        return ()
    return tuple(axis for axis in axes if axis.name not in fixed and f"{axis.input}:{axis.position}" not in fixed)


def workable(
    run: Callable[[Mapping[str, Array]], object], data: Dataset, axes: Sequence[Axis], *, required: bool
) -> tuple[tuple[Axis, ...], tuple[str, ...]]:
    """Find shorter lengths that the source runs at. Return the free axes with these sizes, and messages.

    A length is a half and a quarter of the length in the data, rounded to a multiple of ``MULTIPLES``. An axis without
    a working length is not free. Raises BadInput for such an axis if the user ``required`` it.
    """
    if not axes:
        return (), ()
    full = lengths(axes, data)
    names = _free_together(run, data, axes, full, list(full))
    if not names:
        alone = {name: found for name in full if (found := _free_together(run, data, axes, full, [name]))}
        names = _free_together(run, data, axes, full, list(alone)) or next(iter(alone.values()), {})
    messages = []
    for name in full:
        if name in names:
            continue
        if required:
            raise BadInput(
                f"axis {name!r} has size {full[name]} in the data, and no other size can be verified, because the "
                "model fails at every shorter size: leave the axis out of --dynamic, or give longer rows"
            )
        messages.append(f"axis {name!r} is fixed to {full[name]}: the model does not run at a shorter size")
    return tuple(replace(axis, sizes=names[axis.name]) for axis in axes if axis.name in names), tuple(messages)


def _free_together(
    run: Callable[[Mapping[str, Array]], object],
    data: Dataset,
    axes: Sequence[Axis],
    full: Mapping[str, int],
    names: Sequence[str],
) -> dict[str, tuple[int, ...]]:
    """Sizes by axis name that work when all of ``names`` are shortened together; empty if none works."""
    found: dict[str, list[int]] = {name: [] for name in names}
    for step in range(len(SHARES)):
        for multiple in MULTIPLES:
            now = {name: _shares(full[name], multiple)[step] for name in names}
            if any(size >= full[name] for name, size in now.items()):
                continue
            cut = {key: _cut(array, key, axes, {**full, **now}) for key, array in data.batch(PAIR).items()}
            try:
                run(cut)
            except OptimizeError:
                continue
            for name, size in now.items():
                found[name].append(size)
            break
    return {name: tuple(dict.fromkeys(sizes)) for name, sizes in found.items() if sizes}


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
