"""The objective's capacity: the highest rate at which latency still meets an objective, with an interval.

Three steps, on whatever answers "what was the percentile at this rate": bracket it between a rate that meets the
objective and one that misses it; measure across the bracket; then measure close to where the curve seems to cross the
objective, again and again. The curve can only rise, since a percentile that falls as load grows is noise.

It is fitted to milliseconds, held at three times the limit: their mean over short trials errs least, because of what
most trials see too little, a few see much (the mean of reciprocals, or of logarithms, says that the server bears more
than it does); and a hopeless overload is an ordinary point. A bootstrap of the fit's residuals gives the interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

NARROW = 1.2
"""The bracket is narrow enough when its ends are this ratio apart."""
MARGIN = 1.05
"""The fit reaches beyond the bracket by this ratio: both its ends are single, noisy measurements."""
NEAR = (0.94, 0.97, 1.0, 1.03, 1.06)
"""Where the last trials are, as shares of the crossing that the earlier ones show."""
NEIGHBOURHOOD = 0.1
"""The interval rests on trials this close to the crossing: far from it, the noise is another one."""
CAP = 3.0
"""Beyond this many times the limit, latency says nothing more of where the limit is crossed."""
RESAMPLES = 400
MAX_STEPS = 24
SCHEMA = "slipway.bench.slo/1"


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement: the percentile at a rate. ``ms`` is infinite where requests failed or the rate was not served.

    ``generator``: the load generator was the limit, so nothing is known of the server.
    """

    rate_per_s: float
    ms: float
    generator: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """``rate_per_s``: the highest rate that meets the objective, between ``low`` and ``high`` with 95 % confidence.

    ``None`` with a ``reason`` where it could not be found; ``at_least``: everything up to there met the objective.
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
"""Given a rate and the number of the trial, from which it takes its seed."""


@dataclass(slots=True)
class Search:
    """One search: keeps its trials, so that whoever is interrupted can still show them."""

    measure: Measure
    quantile: float
    limit_ms: float
    max_rate_per_s: float = math.inf
    replicates: int = 3
    trials: list[Trial] = field(default_factory=list)

    def run(self, first_rate_per_s: float) -> Capacity:
        """Search from a first rate, which may be far off: a dozen trials or so, and ``replicates`` x 5."""
        bracket = self._bracket(first_rate_per_s)
        if isinstance(bracket, str):
            met = [one.rate_per_s for one in self.trials if self._meets(one)]
            return self._found(max(met, default=None), None, None, at_least=bool(met), reason=bracket)
        low, high = bracket
        for rate in np.geomspace(low / MARGIN, min(high * MARGIN, self.max_rate_per_s), len(NEAR)):
            self._try(float(rate))
        for _ in range(self.replicates):
            # Anew each time: what the last trials said moves where the next ones are.
            middle = self.fit().rate_per_s
            if middle is not None:
                for share in NEAR:
                    self._try(min(share * middle, self.max_rate_per_s))
        return self.fit()

    def fit(self) -> Capacity:
        """What the trials so far say."""
        usable = [one for one in self.trials if not one.generator]
        rates = np.array([one.rate_per_s for one in usable])
        rising = np.array([min(one.ms, CAP * self.limit_ms) for one in usable])
        crossing = crossing_rate(rates, rising, self.limit_ms)
        if crossing is None:
            return self._found(None, None, None, at_least=False, reason="the fitted curve does not cross the objective")
        near = np.abs(rates / crossing - 1) <= NEIGHBOURHOOD
        low, high = crossing_interval(rates[near], rising[near], self.limit_ms)
        return self._found(crossing, min(low, crossing), max(high, crossing), at_least=False, reason=None)

    def _bracket(self, rate: float) -> tuple[float, float] | str:
        """Doubling or halving until both sides are known, then halving what lies between."""
        low, high = 0.0, math.inf
        for _ in range(MAX_STEPS):
            rate = min(rate, self.max_rate_per_s)
            trial = self._try(rate)
            if trial.generator:
                return "the load generator reached its own limit first: give it a core, or more --processes"
            if self._meets(trial):
                low = max(low, rate)
                if rate >= self.max_rate_per_s:
                    return "every rate that the generator can be trusted at met the objective"
            else:
                high = min(high, rate)
            if low >= high:  # a noisy pair: the fit will say which of them was wrong
                return high / NARROW, low * NARROW
            if low and high / low <= NARROW:
                return low, high
            rate = low * 2 if high == math.inf else high / 2 if not low else math.sqrt(low * high)
        return "no rate met the objective: is it below what one request takes alone?"

    def _try(self, rate: float) -> Trial:
        self.trials.append(self.measure(rate, len(self.trials)))
        return self.trials[-1]

    def _meets(self, trial: Trial) -> bool:
        return not trial.generator and trial.ms <= self.limit_ms

    def _found(
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
            last, before = pools.pop(), pools.pop()
            weight_of_both = last[1] + before[1]
            mean = (last[0] * last[1] + before[0] * before[1]) / weight_of_both
            pools.append((mean, weight_of_both, last[2] + before[2]))
    return np.repeat([one[0] for one in pools], [one[2] for one in pools])


def fitted(rates: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The rising curve through trials: its distinct rates [m], ascending, and the fitted value at each."""
    distinct, where, counts = np.unique(rates, return_inverse=True, return_counts=True)
    means = np.bincount(where, values) / counts
    return distinct, isotonic(means, counts.astype(np.float64))


def crossing_rate(rates: NDArray[np.float64], values: NDArray[np.float64], limit: float) -> float | None:
    """Where the rising curve reaches the limit, straight between its points; None where it never does."""
    distinct, curve = fitted(rates, values)
    above = np.flatnonzero(curve > limit)
    if not len(above) or above[0] == 0:
        return None
    first = int(above[0])
    # The flat stretches of an isotonic fit stand for their middle: a run of pooled points is one measurement.
    left = float(distinct[curve == curve[first - 1]].mean())
    right = float(distinct[curve == curve[first]].mean())
    share = (limit - curve[first - 1]) / (curve[first] - curve[first - 1])
    return left + float(share) * (right - left)


def crossing_interval(rates: NDArray[np.float64], values: NDArray[np.float64], limit: float) -> tuple[float, float]:
    """A 95 % interval of the crossing: the curve plus its residuals, drawn anew and fitted anew.

    Residuals and not trials are drawn, because each rate has few of them; they are widened for the points that the
    curve has adapted to.
    """
    distinct, curve = fitted(rates, values)
    at = np.searchsorted(distinct, rates)
    spread = math.sqrt(len(rates) / max(len(rates) - len(np.unique(curve)), 1))
    residuals = (values - curve[at]) * spread
    random = np.random.default_rng(0)
    found: list[float] = []
    for _ in range(RESAMPLES):
        crossing = crossing_rate(rates, curve[at] + random.choice(residuals, len(rates)), limit)
        # Beyond the rates that were measured it is only known to be beyond.
        found.append(crossing if crossing is not None else float(distinct[0] if curve[0] > limit else distinct[-1]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def falls_short(capacity: Capacity, wanted_per_s: float) -> bool | None:
    """Whether the objective is met by fewer requests per second than wanted: None when nobody can say."""
    rate, low, high = capacity.rate_per_s, capacity.low_per_s, capacity.high_per_s
    if rate is None or capacity.at_least:
        return False if rate is not None and rate >= wanted_per_s else None
    if low is not None and low >= wanted_per_s:
        return False
    return True if high is not None and high < wanted_per_s else None


def summary(capacity: Capacity, name: str) -> str:
    """The result in one line for people. ``name``: the objective's."""
    rate = capacity.rate_per_s
    if rate is None:
        return f"{name}: {capacity.reason}"
    if capacity.at_least:
        return f"{name}: at least {rate:,.1f} requests/s; {capacity.reason}"
    return f"{name}: up to {rate:,.1f} requests/s [{capacity.low_per_s:,.1f}, {capacity.high_per_s:,.1f}]"
