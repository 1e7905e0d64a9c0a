"""Capacity under an objective: the highest rate at which latency still meets the objective, with an interval.

The search has three steps. It brackets the capacity between a rate that meets the objective and a rate that misses it.
It measures at rates across the bracket. Then it measures several times near the crossing of the fitted curve and the
limit. The fit is isotonic, because a percentile that falls as load grows is noise.

The fit uses latency in ms, capped at three times the limit. The mean over short trials has the least bias: most trials
miss the tail and a few overstate it, so that a mean of logarithms or reciprocals overstates the capacity. The cap
limits the weight of saturated trials, whose latency is infinite. A bootstrap of the residuals of the fit gives the
interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NARROW = 1.2
"""The bracket is complete if the ratio of its ends is at most this."""
MARGIN = 1.05
"""The fit extends beyond the bracket by this ratio, because both ends are single, noisy measurements."""
NEAR = (0.94, 0.97, 1.0, 1.03, 1.06)
"""The rates of the last trials, as shares of the rate at which the earlier trials cross the limit."""
NEIGHBOURHOOD = 0.1
"""The interval uses trials this close to the crossing, because noise differs far from it."""
CAP = 3.0
"""Latency is capped at this many times the limit: higher values say nothing about the crossing."""
RESAMPLES = 400
MAX_STEPS = 24
SCHEMA = "slipway.bench.slo/1"


@dataclass(frozen=True, slots=True)
class Trial:
    """The percentile at one rate. ``ms``: infinite if requests failed, or if the server was saturated.

    ``generator``: the load generator was the limit, so that the trial says nothing about the server. ``errors``: the
    most frequent failure; empty without one.
    """

    rate_per_s: float
    ms: float
    generator: bool = False
    errors: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The result of a search.

    ``rate_per_s``: the highest rate that meets the objective; None, with a ``reason``, if the search failed.
    ``low_per_s`` and ``high_per_s``: its 95 % interval. ``at_least``: the search ended before a bracket was complete,
    and ``rate_per_s`` is the highest rate that met the objective.
    """

    quantile: float
    limit_ms: float
    rate_per_s: float | None
    low_per_s: float | None
    high_per_s: float | None
    at_least: bool
    reason: str | None
    trials: tuple[Trial, ...]
    schema: str = field(default=SCHEMA)


Measure = Callable[[float, int], Trial]
"""Measures a rate; the number of the trial selects its seed."""


@dataclass(slots=True)
class Search:
    """One search. It keeps its trials, so that an interrupted command can still show them."""

    measure: Measure
    quantile: float
    limit_ms: float
    max_rate_per_s: float = math.inf
    replicates: int = 3
    trials: list[Trial] = field(default_factory=list)

    def run(self, first_rate_per_s: float) -> Capacity:
        """Search from any first rate. It takes about a dozen trials, and 5 x ``replicates`` more near the crossing."""
        bracket = self._bracket(first_rate_per_s)
        if isinstance(bracket, str):
            met = [one.rate_per_s for one in self.trials if self._meets(one)]
            return self._result(max(met, default=None), None, None, at_least=bool(met), reason=bracket)
        low, high = bracket
        for rate in np.geomspace(low / MARGIN, min(high * MARGIN, self.max_rate_per_s), len(NEAR)):
            self._try(float(rate))
        for _ in range(self.replicates):
            # Each round fits again, because its trials move the crossing.
            crossing_per_s = self.fit().rate_per_s
            if crossing_per_s is not None:
                for share in NEAR:
                    self._try(min(share * crossing_per_s, self.max_rate_per_s))
        return self.fit()

    def fit(self) -> Capacity:
        """The capacity by the trials so far."""
        usable = [one for one in self.trials if not one.generator]
        rates = np.array([one.rate_per_s for one in usable])
        capped_ms = np.array([min(one.ms, CAP * self.limit_ms) for one in usable])
        crossing = crossing_rate(rates, capped_ms, self.limit_ms)
        if crossing is None:
            return self._result(
                None, None, None, at_least=False, reason="the fitted curve does not cross the objective"
            )
        near = np.abs(rates / crossing - 1) <= NEIGHBOURHOOD
        low, high = crossing_interval(rates[near], capped_ms[near], self.limit_ms)
        return self._result(crossing, min(low, crossing), max(high, crossing), at_least=False, reason=None)

    def _bracket(self, rate: float) -> tuple[float, float] | str:
        """A rate that meets and one that misses the objective, or the reason why there are none.

        Found by doubling, halving and bisection.
        """
        low, high = 0.0, math.inf
        for _ in range(MAX_STEPS):
            rate = min(rate, self.max_rate_per_s)
            trial = self._try(rate)
            if trial.generator:
                return "the load generator reached its own limit first: give it a core of its own, or more --processes"
            if self._meets(trial):
                low = max(low, rate)
                if rate >= self.max_rate_per_s:
                    return "every rate up to the reliable limit of the generator met the objective"
            else:
                high = min(high, rate)
            if low >= high:  # a noisy pair of trials: the fit decides between them
                return high / NARROW, low * NARROW
            if low and high / low <= NARROW:
                return low, high
            rate = low * 2 if high == math.inf else high / 2 if not low else math.sqrt(low * high)
        failed = next((one.errors for one in reversed(self.trials) if one.errors), None)
        if failed is not None:
            return f"no rate met the objective, because requests failed ({failed})"
        return "no rate met the objective: compare its limit with the latency of a single request"

    def _try(self, rate: float) -> Trial:
        self.trials.append(self.measure(rate, len(self.trials)))
        return self.trials[-1]

    def _meets(self, trial: Trial) -> bool:
        return not trial.generator and trial.ms <= self.limit_ms

    def _result(
        self, rate: float | None, low: float | None, high: float | None, *, at_least: bool, reason: str | None
    ) -> Capacity:
        return Capacity(self.quantile, self.limit_ms, rate, low, high, at_least, reason, tuple(self.trials))


def isotonic(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-decreasing sequence closest to ``values`` [n] in weighted squares, by pooling adjacent violators
    (Barlow, Bartholomew, Bremner and Brunk, 1972)."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            last, previous = pools.pop(), pools.pop()
            weight_of_both = last[1] + previous[1]
            mean = (last[0] * last[1] + previous[0] * previous[1]) / weight_of_both
            pools.append((mean, weight_of_both, last[2] + previous[2]))
    return np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])


def fitted(rates: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The isotonic curve through trials: its distinct rates [m], ascending, and the fitted values [m]."""
    distinct, position, counts = np.unique(rates, return_inverse=True, return_counts=True)
    means = np.bincount(position, values) / counts
    return distinct, isotonic(means, counts.astype(np.float64))


def crossing_rate(rates: NDArray[np.float64], values: NDArray[np.float64], limit: float) -> float | None:
    """The rate at which the isotonic curve crosses the limit, by linear interpolation; None without a crossing."""
    distinct, curve = fitted(rates, values)
    above = np.flatnonzero(curve > limit)
    if not len(above) or above[0] == 0:
        return None
    first = int(above[0])
    # A flat part of an isotonic fit counts at its middle, because its pooled points are one measurement.
    left = float(distinct[curve == curve[first - 1]].mean())
    right = float(distinct[curve == curve[first]].mean())
    share = (limit - curve[first - 1]) / (curve[first] - curve[first - 1])
    return left + float(share) * (right - left)


def crossing_interval(rates: NDArray[np.float64], values: NDArray[np.float64], limit: float) -> tuple[float, float]:
    """A 95 % interval of the crossing, by a bootstrap of the residuals of the fit.

    Residuals are drawn instead of trials, because each rate has few trials. They are scaled up for the degrees of
    freedom of the fit.
    """
    distinct, curve = fitted(rates, values)
    position = np.searchsorted(distinct, rates)
    scale = math.sqrt(len(rates) / max(len(rates) - len(np.unique(curve)), 1))
    residuals = (values - curve[position]) * scale
    random = np.random.default_rng(0)
    crossings: list[float] = []
    for _ in range(RESAMPLES):
        crossing = crossing_rate(rates, curve[position] + random.choice(residuals, len(rates)), limit)
        # A crossing beyond the measured rates counts at the last of them.
        crossings.append(crossing if crossing is not None else float(distinct[0] if curve[0] > limit else distinct[-1]))
    low, high = np.quantile(crossings, [0.025, 0.975])
    return float(low), float(high)


def falls_short(capacity: Capacity, wanted_per_s: float) -> bool | None:
    """Whether the capacity is below ``wanted_per_s``; None if the interval leaves it open."""
    rate, low, high = capacity.rate_per_s, capacity.low_per_s, capacity.high_per_s
    if rate is None or capacity.at_least:
        return False if rate is not None and rate >= wanted_per_s else None
    if low is not None and low >= wanted_per_s:
        return False
    return True if high is not None and high < wanted_per_s else None


def summary(capacity: Capacity, name: str) -> str:
    """The result in one line of text. ``name``: of the objective."""
    rate = capacity.rate_per_s
    if rate is None:
        return f"{name}: {capacity.reason}"
    if capacity.at_least:
        return f"{name}: at least {rate:,.1f} requests/s; {capacity.reason}"
    return f"{name}: up to {rate:,.1f} requests/s [{capacity.low_per_s:,.1f}, {capacity.high_per_s:,.1f}]"
