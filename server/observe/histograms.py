"""Histograms with a cheap hot path: durations go into a flat buffer, which numpy counts into buckets later."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BOUNDS_S = (
    *(1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BOUNDS_NS = np.array([bound * 1e9 for bound in BOUNDS_S])
BATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PENDING = 512
"""Buffered durations of each series."""

Buckets = list[tuple[str, float]]
"""(Upper bound in seconds or rows, cumulative count) of each bucket, for a Prometheus histogram."""


class Histograms:
    """Histograms of several series of durations that are recorded together."""

    def __init__(self, series: int) -> None:
        self._series = series
        self._counts: NDArray[np.int64] = np.zeros((series, len(BOUNDS_NS) + 1), np.int64)
        self._sums_ns: NDArray[np.int64] = np.zeros(series, np.int64)
        self._pending = array("q")

    def record(self, durations_ns: Sequence[int]) -> None:
        """Record one duration in nanoseconds for each series."""
        self._pending.extend(durations_ns)
        if len(self._pending) >= self._series * PENDING:
            self._fold()

    def add(self, durations_ns: NDArray[np.int64]) -> None:
        """Count durations [requests, series] in nanoseconds into the buckets."""
        width = len(BOUNDS_NS) + 1
        flat = (np.searchsorted(BOUNDS_NS, durations_ns) + np.arange(self._series) * width).ravel()
        self._counts += np.bincount(flat, minlength=self._series * width).reshape(self._series, width)
        self._sums_ns += durations_ns.sum(axis=0)

    def copied(self) -> Histograms:
        """A copy of the counts up to now."""
        self._fold()
        one = Histograms(self._series)
        one._counts, one._sums_ns = self._counts.copy(), self._sums_ns.copy()
        return one

    def cumulative(self, index: int) -> tuple[list[int], float]:
        """Cumulative bucket counts of one series, and its sum in seconds."""
        self._fold()
        return np.cumsum(self._counts[index]).tolist(), float(self._sums_ns[index]) / 1e9

    def total(self, index: int) -> tuple[int, int]:
        """Number of durations of one series, and their sum in nanoseconds."""
        self._fold()
        return int(self._counts[index].sum()), int(self._sums_ns[index])

    def _fold(self) -> None:
        if self._pending:
            pending, self._pending = self._pending, array("q")
            self.add(np.frombuffer(pending, np.int64).reshape(-1, self._series))


def seconds_buckets(counts: Sequence[int]) -> Buckets:
    """Cumulative counts with their bounds in seconds."""
    return list(zip((*(str(bound) for bound in BOUNDS_S), "+Inf"), counts, strict=True))


def rows_buckets(rows: Counter[int]) -> tuple[Buckets, float]:
    """Buckets of batch sizes, and the sum of all rows."""
    counts = [sum(n for size, n in rows.items() if size <= bound) for bound in BATCH_BOUNDS]
    names = (*(str(float(bound)) for bound in BATCH_BOUNDS), "+Inf")
    total = float(sum(size * n for size, n in rows.items()))
    return list(zip(names, (*counts, sum(rows.values())), strict=True)), total
