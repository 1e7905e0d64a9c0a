"""Timings: the measured times of every candidate at one batch size and thread count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """The unit of measurement: one candidate at one batch size with ``threads`` intra-op threads."""

    candidate: str
    batch_size: int
    threads: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of single runs of a cell: the median of each round in order, and percentiles over all runs.

    ``steady_us`` holds the same medians by round number, divided by the slowdown that float32 showed just before and
    just after. Two cells are compared in the rounds that both have.
    """

    rounds_us: tuple[float, ...]
    p50_us: float
    p95_us: float
    runs: int
    steady_us: Mapping[int, float] = field(default_factory=dict)

    @property
    def by_round(self) -> Mapping[int, float]:
        return self.steady_us or dict(enumerate(self.rounds_us))

    @property
    def usual_us(self) -> float:
        return float(np.median(list(self.by_round.values())))

    def to_json(self) -> dict[str, Any]:
        return {
            "p50_us": round(self.p50_us, 2),
            "p95_us": round(self.p95_us, 2),
            "steady_us": round(self.usual_us, 2),
            "rounds": len(self.rounds_us),
            "runs": self.runs,
        }


Timings = Mapping[Cell, Timing]


def unevenness(timings: Timings) -> float:
    """The ratio of the machine's fastest to its slowest pace, over the middle 90 % of all measured blocks."""
    slowdowns = [
        us / steady
        for timing in timings.values()
        for us, steady in zip(timing.rounds_us, timing.by_round.values(), strict=True)
    ]
    low, high = np.percentile(slowdowns, [5, 95])
    return float(high / low)
