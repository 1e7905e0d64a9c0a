"""The ratio: a percentile over another one, with its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ratio:
    """A percentile after a change over that before: the best estimate, and the ends of its interval."""

    value: float
    low: float
    high: float
