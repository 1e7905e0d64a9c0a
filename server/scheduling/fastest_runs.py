"""The fastest runs of the last minutes, by batch size: what a model has shown that it can do."""

from __future__ import annotations

PERIOD_NS = 120_000_000_000
"""A run is remembered for one to two of these periods, and longer while no other run of its size is recorded."""


class FastestRuns:
    """Nanoseconds of the fastest run of each batch size. It decides nothing, and every call is given the time."""

    __slots__ = ("_earlier", "_lately", "_until_ns")

    def __init__(self) -> None:
        self._earlier: dict[int, float] = {}
        self._lately: dict[int, float] = {}
        self._until_ns = 0

    def record(self, rows: int, duration_ns: float, now_ns: int) -> None:
        """Remember one run of ``rows`` rows."""
        if now_ns >= self._until_ns:
            self._earlier.update(self._lately)
            self._lately = {}
            self._until_ns = now_ns + PERIOD_NS
        if duration_ns < self._lately.get(rows, duration_ns + 1):
            self._lately[rows] = duration_ns

    def ns(self, rows: int, otherwise: float) -> float:
        """The fastest run of this size, at most ``otherwise``, which is returned where none is known."""
        return min(self._earlier.get(rows, otherwise), self._lately.get(rows, otherwise), otherwise)
