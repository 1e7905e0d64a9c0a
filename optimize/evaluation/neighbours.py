"""Neighbours: how much the outputs of a row change with the other rows of its batch, one of them hostile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.backends import Session
from server.backends.independence import HALF, HALF_BYTES, SINGLE, same
from server.tensors import Array

from ..passes import running
from .dataset import Dataset
from .reading import Outputs

ROWS = 32
"""Rows that are run alone for the comparison."""

HOSTILE = 1000.0
"""Factor of the float values of a hostile row: the scale of a batch that another caller sent without preprocessing."""


@dataclass(frozen=True, slots=True)
class Influence:
    """The change of outputs by neighbours, over ``rows`` rows that were run alone and among others.

    ``largest``: the largest change of a value, as a share of the largest value of the same row and output. ``changed``:
    rows that changed by more than the rounding of their number format.
    """

    rows: int
    changed: int
    largest: float

    @property
    def dependent(self) -> bool:
        return self.changed > 0

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "changed": self.changed, "largest": round(self.largest, 6)}


def alone(path: Path, data: Dataset, threads: int) -> dict[str, Array]:
    """The outputs of the first ``ROWS`` rows, each run alone."""
    session = running.open_session(path, threads)
    try:
        parts = [_run(session, data.batch(1, at)) for at in range(min(ROWS, data.rows))]
    finally:
        session.close()
    return _joined(session, parts)


def served(path: Path, data: Dataset, batch_size: int, threads: int, seed: int, limit: int | None) -> dict[str, Array]:
    """The outputs of the first ``limit`` rows as a server batches them, in the order of the data.

    Every batch holds random rows of the data and one hostile row at a random place.
    """
    rows = data.rows if limit is None else min(limit, data.rows)
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows)
    session = running.open_session(path, threads)
    parts = []
    try:
        step = max(1, batch_size - 1)
        for start in range(0, rows, step):
            chosen = order[start : start + step]
            # A short last batch is filled with rows from the start, so that all batches have one size.
            filled = np.concatenate([chosen, order[: step - len(chosen)]]) if len(chosen) < step else chosen
            place = int(rng.integers(0, len(filled) + 1))
            batch = {
                name: np.insert(array[filled], place, hostile(array[filled[:1]]), axis=0)
                for name, array in data.inputs.items()
            }
            found = _run(session, batch)
            parts.append([np.delete(array, place, axis=0)[: len(chosen)] for array in found])
    finally:
        session.close()
    back = np.argsort(order)
    return {name: array[back] for name, array in _joined(session, parts).items()}


def hostile(row: Array) -> Array:
    """A row whose float values are ``HOSTILE`` times as large; other types stay, because their range is limited."""
    if row.dtype.kind != "f":
        return row
    with np.errstate(over="ignore", invalid="ignore"):
        huge: Array = (np.abs(row) + 1) * row.dtype.type(HOSTILE)
    return np.where(np.isfinite(huge), huge, row)


def influence(single: Outputs, among: Outputs) -> Influence:
    """Compare the rows of ``single`` with the same rows of ``among``."""
    rows = len(next(iter(single.values())))
    changed, largest = np.zeros(rows, bool), 0.0
    for name, array in single.items():
        for at in range(rows):
            one, other = array[at], among[name][at]
            changed[at] |= one.shape != other.shape or not same(
                one, other, HALF if one.dtype.itemsize == HALF_BYTES else SINGLE
            )
            if one.dtype.kind == "f" and one.size and one.shape == other.shape:
                scale = max(float(np.nanmax(np.abs(one), initial=0.0)), 1e-12)
                largest = max(largest, float(np.nanmax(np.abs(one.astype(np.float64) - other), initial=0.0)) / scale)
    return Influence(rows, int(changed.sum()), largest)


def _run(session: Session, batch: dict[str, Array]) -> list[Array]:
    return session.run([batch[spec.name] for spec in session.spec.inputs])


def _joined(session: Session, parts: list[list[Array]]) -> dict[str, Array]:
    names = [spec.name for spec in session.spec.outputs]
    return {name: np.concatenate([part[at] for part in parts]) for at, name in enumerate(names)}
