"""The quantile sketch: a bounded summary of many numbers, mergeable, in the form that statistics.json holds (KLL).

Level i holds values that each stand for 2^i numbers. A full level is sorted, and every second value of it goes to the
next level; which half stays is random, so that errors of ranks have mean zero (Karnin, Lang, Liberty 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

K = 2_048
"""Values of a level in files; with it the standard deviation of a rank is about 0.05 % of the count."""
WORKING_K = 8_192
"""Values of a level in memory."""

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Sketch:
    """The sketch of one column. ``count``: numbers added."""

    k: int = WORKING_K
    levels: list[Floats] = field(default_factory=lambda: [np.empty(0)])
    count: int = 0
    compactions: float = 0.0
    """Sum over all compactions of the squared weight: a rank is off by that weight, one way or the other, where it is
    odd, so that the variance of a rank is half of the sum."""
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, values: Floats) -> None:
        """Add finite numbers."""
        self.count += len(values)
        self.levels[0] = np.concatenate((self.levels[0], values))
        self._compact(self.k)

    def reduced(self, k: int = K) -> Sketch:
        """A copy with smaller levels."""
        one = Sketch(k, list(self.levels), self.count, self.compactions, np.random.default_rng(1))
        one._compact(k)
        return one

    def _compact(self, k: int) -> None:
        level = 0
        while level < len(self.levels):
            values = self.levels[level]
            if len(values) > k:
                ordered = np.sort(values)
                keep = ordered[len(ordered) - len(ordered) % 2 :]  # an odd value stays
                ordered = ordered[: len(ordered) - len(ordered) % 2]
                promoted = ordered[int(self.random.integers(2)) :: 2]
                self.levels[level] = keep
                if level + 1 == len(self.levels):
                    self.levels.append(np.empty(0))
                self.levels[level + 1] = np.concatenate((self.levels[level + 1], promoted))
                self.compactions += 4.0**level
            level += 1

    def weighted(self) -> tuple[Floats, Floats]:
        """Values in order, and their weights, which add up to about ``count``."""
        values = np.concatenate(self.levels)
        weights = np.concatenate([np.full(len(one), 2.0**level) for level, one in enumerate(self.levels)])
        order = np.argsort(values, kind="stable")
        return values[order], weights[order]

    @property
    def rank_error(self) -> float:
        """Four standard deviations of a rank and the weight of one value, as a share of the count; 0 while all numbers
        are kept."""
        if not (self.count and self.compactions):
            return 0.0
        return (4 * math.sqrt(self.compactions / 2) + 2.0 ** (len(self.levels) - 1)) / self.count

    def to_json(self) -> dict[str, Any]:
        """The ``sketch`` of a KLL distribution."""
        return {"parameters": {"c": 0.64, "k": self.k}, "data": [np.sort(one).tolist() for one in self.levels]}


def from_json(document: Any, count: int) -> Sketch:
    """The sketch of a file. ``count``: numbers that it stands for. Raises ValueError or TypeError."""
    levels = [np.asarray(one, np.float64).reshape(-1) for one in document["data"]] or [np.empty(0)]
    if any(not np.isfinite(one).all() for one in levels):
        raise ValueError("a sketch holds finite numbers only")
    k = max(int(document["parameters"]["k"]), 1)
    top = len(levels) - 1
    # Each level was filled count / (k * 2^level) times, and each time every second value went up.
    compactions = sum(4.0**level * count / (k * 2.0**level) for level in range(top))
    return Sketch(k, levels, count, compactions)


def buckets(sketch: Sketch, low: float, high: float, bins: int = 10) -> list[dict[str, float]]:
    """The ``buckets`` of a KLL distribution: equal widths from ``low`` to ``high``."""
    values, weights = sketch.weighted()
    if not len(values):
        return []
    edges = np.linspace(low, high, bins + 1) if high > low else np.array([low, high])
    inner = np.searchsorted(edges[1:-1], values, side="right")
    counts = np.bincount(inner, weights, minlength=len(edges) - 1)
    return [
        {"lower_bound": float(start), "upper_bound": float(end), "count": float(round(count))}
        for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def distance(one: Sketch, other: Sketch) -> tuple[float, float]:
    """The largest difference between two distribution functions (Kolmogorov-Smirnov), and where it is."""
    (a, a_weights), (b, b_weights) = one.weighted(), other.weighted()
    points = np.unique(np.concatenate((a, b)))
    shares = []
    for values, weights in ((a, a_weights), (b, b_weights)):
        total = np.concatenate(([0.0], np.cumsum(weights)))
        shares.append(total[np.searchsorted(values, points, side="right")] / total[-1])
    gaps = np.abs(shares[0] - shares[1])
    at = int(gaps.argmax())
    return float(gaps[at]), float(points[at])
