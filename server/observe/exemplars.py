"""Exemplars: for each bucket of a histogram the newest sampled request that fell into it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from .histograms import BOUNDS_S

Noted = tuple[str, str, float, float]
"""Trace id, span id, value in seconds, and when (seconds of the Unix epoch)."""


class Exemplars:
    """The exemplars of several series of durations, by series and bucket. Empty without tracing."""

    def __init__(self) -> None:
        self._noted: dict[tuple[int, int], Noted] = {}

    def note(self, durations_ns: Sequence[int], trace_id: str, span_id: str, at_s: float) -> None:
        """Note one request with one duration for each series. Any one thread may call it."""
        for series, duration_ns in enumerate(durations_ns):
            value_s = duration_ns / 1e9
            self._noted[series, bisect_left(BOUNDS_S, value_s)] = trace_id, span_id, value_s, at_s

    def copied(self) -> Exemplars:
        one = Exemplars()
        one._noted = self._noted.copy()
        return one

    def beside(self, series: int, buckets: Sequence[tuple[str, float]]) -> list[Any]:
        """The buckets of a series, each with its exemplar where it has one."""
        from prometheus_client.samples import Exemplar

        rows: list[Any] = []
        for index, (bound, count) in enumerate(buckets):
            noted = self._noted.get((series, index))
            if noted is None:
                rows.append((bound, count))
                continue
            trace_id, span_id, value_s, at_s = noted
            rows.append((bound, count, Exemplar({"trace_id": trace_id, "span_id": span_id}, value_s, at_s)))
        return rows
