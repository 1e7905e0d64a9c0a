"""Bootstrap intervals, seeded: the range of a mean or median over resampled rows or rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.tensors import Array

RESAMPLES = 2000
CONFIDENCE = 0.95

Statistic = Callable[[Array], float]
"""Computes a figure over the rows at these indices."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the range that holds 95 % of its resampled values."""

    value: float
    low: float
    high: float

    def negative(self) -> Interval:
        return Interval(-self.value, -self.high, -self.low)

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high}


def mean(values: Array, seed: int) -> Interval:
    """Percentile bootstrap interval of the mean of ``values`` (float, one per row).

    B. Efron, R. Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13. For paired rows, pass their
    differences: the interval is narrow because both sides are resampled together.
    """
    rng = np.random.default_rng(seed)
    # One resample at a time: a (resamples, rows) matrix of a large evaluation set would not fit into memory.
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)])
    return _percentiles(float(values.mean()), means)


def paired(ours: Statistic, theirs: Statistic, rows: int, seed: int, resamples: int) -> tuple[Interval, Interval]:
    """Intervals of ``ours`` and of ``theirs - ours``, both computed over the same resampled rows.

    For figures that are not means over rows (F1, AUROC). A resample in which the figure is undefined, for example
    because a class is absent, is skipped.
    """
    rng = np.random.default_rng(seed)
    every = np.arange(rows)
    value, base = ours(every), theirs(every)
    draws = [rng.integers(0, rows, rows) for _ in range(resamples)]
    left = np.array([ours(draw) for draw in draws])
    right = np.array([theirs(draw) for draw in draws])
    defined = np.isfinite(left) & np.isfinite(right)
    if not defined.any():
        return Interval(value, -np.inf, np.inf), Interval(base - value, -np.inf, np.inf)
    left, right = left[defined], right[defined]
    return _percentiles(value, left), _percentiles(base - value, right - left)


def median(values: Array, seed: int) -> Interval:
    """Percentile bootstrap interval of the median of ``values`` (float, one per round)."""
    rng = np.random.default_rng(seed)
    medians = np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    return _percentiles(float(np.median(values)), medians)


def _percentiles(value: float, resampled: Array) -> Interval:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
