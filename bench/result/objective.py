"""The objective: a limit for a latency percentile, and whether a run met it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable
from ..load.measurements import Outcome
from .record import ObjectiveRecord
from .statistics import Percentile, percentile_name

MAX_ERROR_SHARE = 0.001
"""A higher share of failed requests misses any objective. Otherwise a server could meet it by refusing requests."""
UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Objective:
    """At least the share ``quantile`` of requests takes at most ``limit_ms``."""

    quantile: float
    limit_ms: float

    @property
    def name(self) -> str:
        return f"{percentile_name(self.quantile)} <= {self.limit_ms:g} ms"


def quantile(text: str) -> float:
    """The quantile that a text such as ``p99`` names, here 0.99. Raises Unusable for another text."""
    match = re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)", text)
    if match is None or not float(match[1]) > 0:
        raise Unusable(f"cannot read the percentile {text!r}: write p50, p99 or p99.9")
    return round(float(match[1]) / 100, 9)


def duration_ms(text: str) -> float:
    """Milliseconds, from ``50ms``, ``0.2s``, ``800us`` or a number of ms. Raises Unusable for another text."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s)?", text.strip())
    value = float(match[1]) * UNITS_MS[match[2] or "ms"] if match is not None else 0.0
    if not 0 < value < math.inf:
        raise Unusable(f"cannot read the duration {text!r}: write 50ms, 0.2s or 800us")
    return value


def parse(text: str) -> Objective:
    """The objective that a text such as ``p99:50ms`` describes. Raises Unusable for another text."""
    name, colon, limit = text.partition(":")
    if not colon:
        raise Unusable(f"cannot read the objective {text!r}: write p99:50ms")
    return Objective(quantile(name), duration_ms(limit))


def judge(
    objective: Objective, percentile: Percentile | None, window: dict[str, NDArray[np.int64]], seconds: float
) -> ObjectiveRecord:
    """The state of the objective.

    ``percentile``: the measured one; None if it is refused. ``window``: the measured rows, int64 [n] by column.
    ``seconds``: the measured time.
    """
    latency_ns = window["last_byte_ns"] - window["due_ns"]
    is_good = (window["outcome"] == Outcome.OK) & (latency_ns <= objective.limit_ms * 1e6)
    good_share = float(is_good.mean()) if len(is_good) else 0.0
    failed_share = float((window["outcome"] != Outcome.OK).mean()) if len(is_good) else 0.0
    state = "missed" if failed_share > MAX_ERROR_SHARE and percentile is not None else _state(objective, percentile)
    return ObjectiveRecord(objective.quantile, objective.limit_ms, state, good_share, float(is_good.sum()) / seconds)


def _state(objective: Objective, percentile: Percentile | None) -> str:
    if percentile is None or percentile.value_ms is None:
        return "unknown"
    if percentile.high_ms is not None and percentile.high_ms <= objective.limit_ms:
        return "met"
    timed_out_above_limit = percentile.at_least and percentile.value_ms > objective.limit_ms
    if timed_out_above_limit or (percentile.low_ms or 0.0) > objective.limit_ms:
        return "missed"
    return "undecided"
