"""Intervals by resampling, seeded: what a mean or a median would have been with other rows, or in other rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from server.tensors import Array

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the range that holds 95 % of its resampled values."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value, "low": self.low, "high": self.high}


def mean(values: Array, seed: int) -> Interval:
    """Percentile bootstrap interval of the mean of ``values`` (float, one per row).

    B. Efron, R. Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13. Where rows are paired, pass their
    differences: resampling both sides together is what makes the interval narrow.
    """
    rng = np.random.default_rng(seed)
    # Row by row instead of one (resamples, rows) matrix: a large evaluation set would not fit into memory.
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)])
    return _percentiles(float(values.mean()), means)


def median(values: Array, seed: int) -> Interval:
    """Percentile bootstrap interval of the median of ``values`` (float, one per round)."""
    rng = np.random.default_rng(seed)
    medians = np.median(values[rng.integers(0, len(values), (RESAMPLES, len(values)))], axis=1)
    return _percentiles(float(np.median(values)), medians)


def _percentiles(value: float, resampled: Array) -> Interval:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
