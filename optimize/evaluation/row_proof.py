"""The proof on all rows: float32's outputs against the source's own, row by row and output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import NotProven

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Float32 kernels add in different orders. ``ABSOLUTE`` is scaled by the largest value of the row's output."""

MOST_UNEQUAL = 0.01
"""Largest share of unequal rows. Single rows may be unequal where a float32 rounding decides a branch of a tree."""


@dataclass(frozen=True, slots=True)
class OutputProof:
    """One output on all ``rows``: how many are ``unequal``, and the ``worst`` one with its largest difference.

    ``source`` and ``float32`` are the two values there. ``worst`` is an index into the evaluation rows.
    """

    output: str
    rows: int
    unequal: int
    worst: int
    difference: float
    source: float
    float32: float

    def __str__(self) -> str:
        equal = "all equal" if not self.unequal else f"{self.unequal} unequal"
        return (
            f"{self.output}: {self.rows} rows, {equal}, worst row {self.worst}: {self.float32:.6g} instead of "
            f"{self.source:.6g}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "output": self.output,
            "rows": self.rows,
            "unequal": self.unequal,
            "worst_row": self.worst,
            "max_abs_difference": self.difference,
            "source": self.source,
            "float32": self.float32,
        }


def prove(source: Mapping[str, Array], float32: Mapping[str, Array]) -> tuple[OutputProof, ...]:
    """Compare all rows of the outputs that both have.

    A row is equal when each value is within ``RELATIVE`` of it plus ``ABSOLUTE`` of the largest value of that row.
    Raises NotProven when more than ``MOST_UNEQUAL`` of the rows are unequal, or when shapes differ.
    """
    found = []
    for name, want in source.items():
        if name not in float32 or want.dtype.kind not in "fiub":
            continue
        have = float32[name]
        if want.shape != have.shape:
            raise NotProven(f"output {name!r} has shape {list(have.shape)} instead of {list(want.shape)} on all rows")
        found.append(_compare(name, want, have))
    for one in found:
        if one.unequal > MOST_UNEQUAL * one.rows:
            raise NotProven(
                f"the exported graph differs from the source in {one.unequal} of {one.rows} rows of output "
                f"{one.output!r}: row {one.worst} has {one.float32:.6g} instead of {one.source:.6g}"
            )
    return tuple(found)


def _compare(name: str, want: Array, have: Array) -> OutputProof:
    rows = len(want)
    exact, got = (array.reshape(rows, -1).astype(np.float64) for array in (want, have))
    scale = np.maximum(1.0, np.where(np.isfinite(exact), np.abs(exact), 0.0).max(axis=1, initial=0.0))
    with np.errstate(invalid="ignore"):
        difference = np.abs(exact - got)
        both = (np.isnan(exact) & np.isnan(got)) | (exact == got)
        close = both | (difference <= RELATIVE * np.abs(exact) + ABSOLUTE * scale[:, None])
    difference = np.where(both, 0.0, np.nan_to_num(difference, nan=np.inf))
    # The worst row is the one whose difference is largest for its own size, and unequal rows come first.
    weight = np.where(close, 0.0, 1e12) + difference / scale[:, None]
    at = int(np.argmax(weight)) if weight.size else 0
    row, value = divmod(at, max(1, exact.shape[1]))
    return OutputProof(
        name,
        rows,
        int((~close.all(axis=1)).sum()),
        row,
        float(difference[row, value]) if difference.size else 0.0,
        float(exact[row, value]) if exact.size else 0.0,
        float(got[row, value]) if got.size else 0.0,
    )
