"""The objective: a limit of a latency percentile, and whether a load met it."""

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
"""A higher share of failures misses any objective, so that a server cannot meet it by refusing requests."""
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
    """The quantile that ``p99`` names. Raises Unusable."""
    found = re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)", text)
    if found is None or not float(found[1]) > 0:
        raise Unusable(f"cannot read the percentile {text!r}: write p50, p99 or p99.9")
    return round(float(found[1]) / 100, 9)


def duration_ms(text: str) -> float:
    """The milliseconds of ``50ms``, ``0.2s`` or ``800us``; a bare number is milliseconds. Raises Unusable."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s)?", text.strip())
    value = float(found[1]) * UNITS_MS[found[2] or "ms"] if found is not None else 0.0
    if not 0 < value < math.inf:
        raise Unusable(f"cannot read the duration {text!r}: write 50ms, 0.2s or 800us")
    return value


def parse(text: str) -> Objective:
    """The objective that ``p99:50ms`` describes. Raises Unusable."""
    name, colon, limit = text.partition(":")
    if not colon:
        raise Unusable(f"cannot read the objective {text!r}: write p99:50ms")
    return Objective(quantile(name), duration_ms(limit))


def judge(
    objective: Objective, found: Percentile | None, window: dict[str, NDArray[np.int64]], seconds: float
) -> ObjectiveRecord:
    """The state of the objective. ``found``: its percentile, None if it is refused; ``window``: the measured rows."""
    latency_ns = window["last_byte_ns"] - window["due_ns"]
    good = (window["outcome"] == Outcome.OK) & (latency_ns <= objective.limit_ms * 1e6)
    share = float(good.mean()) if len(good) else 0.0
    failed = float((window["outcome"] != Outcome.OK).mean()) if len(good) else 0.0
    state = "missed" if failed > MAX_ERROR_SHARE and found is not None else _state(objective, found)
    return ObjectiveRecord(objective.quantile, objective.limit_ms, state, share, float(good.sum()) / seconds)


def _state(objective: Objective, found: Percentile | None) -> str:
    if found is None or found.value_ms is None:
        return "unknown"
    if found.high_ms is not None and found.high_ms <= objective.limit_ms:
        return "met"
    if (found.low_ms or 0.0) > objective.limit_ms or (found.at_least and found.value_ms > objective.limit_ms):
        return "missed"
    return "undecided"
