"""Segments: parts of an output that differ in range, so that large ones do not hide noise in small ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from server.tensors import Array

APART = 8.0
"""Ratio of two neighbouring ranges from which on they belong to different segments."""

LEAST_SHARE = 1e-4
"""Entries with a smaller share of the largest range are negligible."""

MOST_COLUMNS = 4096
"""Longer axes are positions, not columns."""

BEST_DB = 120.0


def split(name: str, reference: Array) -> Iterator[tuple[str, tuple[slice | Array, ...]]]:
    """The segments of a float output with rows on axis 0: a label, and an index of the array.

    Along the axis whose entries differ most in range, entries are grouped by range. An output of one range is one
    segment, and so are probabilities, which share one unit.
    """
    if not reference.size or (np.nanmin(reference) >= 0 and np.nanmax(reference) <= 1):
        yield f"output {name!r}", ()
        return
    best: tuple[float, int, Array] | None = None
    for axis in range(1, reference.ndim):
        if not 2 <= reference.shape[axis] <= MOST_COLUMNS:
            continue
        others = tuple(at for at in range(reference.ndim) if at != axis)
        ranges = np.nan_to_num(np.abs(reference.astype(np.float64)), posinf=0.0).max(axis=others, initial=0.0)
        known = ranges[ranges > LEAST_SHARE * ranges.max()]
        spread = float(known.max() / known.min()) if known.size > 1 else 1.0
        if spread >= APART and (best is None or spread > best[0]):
            best = (spread, axis, ranges)
    if best is None:
        yield f"output {name!r}", ()
        return
    _, axis, ranges = best
    order = np.argsort(ranges, kind="stable")
    small = np.maximum(ranges[order], np.finfo(np.float64).tiny)
    cuts = np.flatnonzero(small[1:] / small[:-1] >= APART) + 1
    for part in np.split(order, cuts):
        columns = np.sort(part)
        if ranges[columns].max() <= LEAST_SHARE * ranges.max():
            continue
        where = (slice(None),) * axis + (columns,)
        yield f"columns {_listed(columns)} of output {name!r}", where


def sqnr_db(candidate: Array, reference: Array) -> float:
    """Signal-to-noise ratio in decibel of one segment; the signal is its variation around the mean of each entry."""
    exact, rough = reference.astype(np.float64), candidate.astype(np.float64)
    known = np.isfinite(exact) & np.isfinite(rough)
    if not known.any():
        return BEST_DB
    exact, rough = np.where(known, exact, 0.0), np.where(known, rough, 0.0)
    noise = float(np.square(exact - rough).sum())
    centred = exact - exact.mean(axis=0, keepdims=True) if len(exact) > 1 else exact
    signal = float(np.square(centred).sum()) or float(np.square(exact).sum())
    if noise == 0:
        return BEST_DB
    return -BEST_DB if signal == 0 else float(np.clip(10 * np.log10(signal / noise), -BEST_DB, BEST_DB))


def worst(candidate: Mapping[str, Array], reference: Mapping[str, Array]) -> tuple[str, float]:
    """The segment with the lowest signal-to-noise ratio over all float outputs, and the ratio in decibel."""
    found = ("", BEST_DB)
    for name, array in reference.items():
        if array.dtype.kind != "f" or array.ndim == 0:
            continue
        for label, where in split(name, array):
            ratio = sqnr_db(candidate[name][where], array[where])
            if ratio < found[1]:
                found = (label, ratio)
    return found


def _listed(columns: Array) -> str:
    """``0-3, 7``: runs of consecutive numbers."""
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    return ", ".join(parts[:6]) + (", ..." if len(parts) > 6 else "")
