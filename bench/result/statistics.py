"""Statistics of latency: exact percentiles, their minimum samples and their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SECTIONS = 5
"""Shorter sections are correlated: with twenty, intervals on simulated queues cover the true value far less often."""
CONFIDENCE = 0.95
MIN_REPEATS = 3
"""With two repeats, Student's t is 12.7, so that the interval is too wide to be useful."""
# Student's t, 97.5 %, for 1 to 30 degrees of freedom.
T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
    2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484,
    2.0452, 2.0423,
)  # fmt: skip

MAX_EXPONENT = 100.0
"""A larger exponent overflows a float after the multiplication."""

Nanoseconds = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of latency, in ms.

    ``value_ms``: None with fewer samples than ``min_samples``. ``at_least``: the percentile is a timed-out request, so
    that its true value is unknown and not below ``value_ms``. ``low_ms`` and ``high_ms``: the 95 % confidence interval
    by ``method``; None without a value, and ``high_ms`` also if the interval reaches the time-out.
    """

    quantile: float
    value_ms: float | None
    low_ms: float | None
    high_ms: float | None
    method: str | None
    at_least: bool
    samples: int
    min_samples: int


def percentile_name(quantile: float) -> str:
    """``p99`` of 0.99, ``p99.9`` of 0.999."""
    return f"p{round(quantile * 100, 6):g}"


def order_statistic(ascending: Nanoseconds, quantile: float) -> int:
    """The smallest observed value with at least ``quantile`` of all values at or below it (nearest rank).

    There is no interpolation, so that the result is a measured value. ``ascending``: sorted, at least one value.
    ``quantile``: in (0, 1].
    """
    # 1e-9: 0.95 * 20 is 19.000000000000004 in binary and must stay rank 19.
    rank = math.ceil(quantile * len(ascending) - 1e-9)
    return int(ascending[max(rank, 1) - 1])


def min_samples(quantile: float, confidence: float = CONFIDENCE) -> int:
    """The fewest independent samples that give an upper bound of a quantile when one sample exceeds the bound.

    It is the smallest n with P(Binomial(n, 1 - quantile) <= 1) <= 1 - confidence: the early-stopping rule of MLPerf's
    LoadGen with one overlatency query. Queueing makes samples dependent, so that this number is necessary and not
    sufficient. Raises ValueError for a quantile outside (0, 1).
    """
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile lies between 0 and 1, not {quantile}")

    def at_most_one_miss(count: int) -> float:
        return float(quantile**count + count * (1 - quantile) * quantile ** (count - 1))

    low, high = 1, 2
    while at_most_one_miss(high) > 1 - confidence:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if at_most_one_miss(middle) <= 1 - confidence else (middle + 1, high)
    return low


def t_975(degrees: int) -> float:
    """Student's t, 97.5 %: the factor of a two-sided 95 % interval. ``degrees`` of freedom, at least 1."""
    if degrees <= len(T_975):
        return T_975[degrees - 1]
    # Cornish-Fisher expansion around the normal quantile; correct to four digits above 30 degrees of freedom.
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def percentile(
    latency_ns: Nanoseconds,
    quantile: float,
    timeout_ns: int | None = None,
    repeat: NDArray[np.int64] | None = None,
) -> Percentile:
    """A percentile with its interval, from latencies [n] in the order of their intended instants.

    Values at or above ``timeout_ns`` are requests that timed out: their true latency is unknown and larger.
    ``repeat`` [n]: the repeat of each request; three or more repeats give the interval.
    """
    need = min_samples(quantile)
    count = len(latency_ns)
    if count < need:
        return Percentile(quantile, None, None, None, None, False, count, need)
    value_ns = order_statistic(np.sort(latency_ns), quantile)
    low_ns, high_ns, method = interval(latency_ns, quantile, repeat)
    limit_ns = math.inf if timeout_ns is None else timeout_ns
    return Percentile(
        quantile=quantile,
        value_ms=value_ns / 1e6,
        low_ms=low_ns / 1e6,
        high_ms=high_ns / 1e6 if high_ns < limit_ns else None,
        method=method,
        at_least=value_ns >= limit_ns,
        samples=count,
        min_samples=need,
    )


def interval(
    latency_ns: Nanoseconds, quantile: float, repeat: NDArray[np.int64] | None = None
) -> tuple[float, float, str]:
    """The 95 % interval in ns, and the name of its method: over three or more repeats, else over sections of time.

    Consecutive requests share a queue, so that their latencies are correlated. Binomial intervals and bootstraps of
    single requests ignore that, and are several times too narrow.
    """
    parts = [latency_ns[repeat == one] for one in np.unique(repeat)] if repeat is not None else []
    if len(parts) >= MIN_REPEATS:
        return *interval_over(parts, quantile), "repeats"
    return *sectioned_interval(latency_ns, quantile), "sections"


def sectioned_interval(latency_ns: Nanoseconds, quantile: float) -> tuple[float, float]:
    """The interval in ns over five consecutive sections, which are nearly independent."""
    return interval_over(np.array_split(latency_ns, SECTIONS), quantile)


def interval_over(parts: Sequence[Nanoseconds], quantile: float) -> tuple[float, float]:
    """Sectioning (Asmussen and Glynn, Stochastic Simulation, 2007, III.5a), in ns.

    Student's interval, from the deviations of each part's percentile from the percentile of all values. The mean of the
    parts is not the centre, because the percentile of a short part is biased. Deviations are logarithms, because the
    error of a tail percentile is proportional to its value.
    """
    total_ns = _quantile_ns(np.concatenate(parts), quantile)
    log_ratios = [math.log(_quantile_ns(part, quantile) / total_ns) for part in parts if len(part)]
    degrees = max(len(log_ratios) - 1, 1)
    half = t_975(degrees) * math.sqrt(sum(log_ratio**2 for log_ratio in log_ratios) / (len(log_ratios) * degrees))
    return total_ns * math.exp(-half), total_ns * math.exp(min(half, MAX_EXPONENT))


def _quantile_ns(latency_ns: Nanoseconds, quantile: float) -> int:
    return max(order_statistic(np.sort(latency_ns), quantile), 1)
