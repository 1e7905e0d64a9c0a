"""The figures of the statistics, on simulated queues of which the truth is known: intervals, and ``slo``."""

from __future__ import annotations

import math

import numpy as np

from bench.experiments import capacity as slo
from bench.result import statistics as stats
from tests.benchmarks.bench.figure import Figure, at_least
from tests.unit.bench.queues import true_capacity_per_s, true_quantile_ms, waits_and_service_ms

SERVICE_MS = 1.0
RATE_PER_S, RUN_S, REPEATS = 800.0, 30.0, 5
TRIALS = 200
LIMIT_MS, TRIAL_S, SEEDS = 50.0, 10.0, 40


def coverage(quantile: float, repeats: int, seconds: float = RUN_S, trials: int = TRIALS) -> float:
    """How often the interval of a run at 80 % load holds the true percentile: one run, or so many repeats of it."""
    truth_ns = true_quantile_ms(RATE_PER_S, SERVICE_MS, quantile) * 1e6
    count = round(RATE_PER_S * seconds)
    covered = 0
    for trial in range(trials):
        parts = [waits_and_service_ms(RATE_PER_S, SERVICE_MS, count, 100 * trial + one) for one in range(repeats)]
        latency_ns = (np.concatenate(parts) * 1e6).astype(np.int64)
        low, high, _ = stats.interval(latency_ns, quantile, np.repeat(np.arange(repeats), count))
        covered += low <= truth_ns <= high
    return covered / trials


def intervals() -> list[Figure]:
    """One run and five repeats, at the percentiles that are shown."""
    found = []
    for repeats in (1, REPEATS):
        runs = "one run" if repeats == 1 else f"{repeats} repeats"
        for quantile in (0.5, 0.95, 0.99):
            name = f"p{100 * quantile:g} of {runs} of {RUN_S:g} s: intervals that hold the truth"
            found.append(at_least(name, coverage(quantile, repeats), 0.85, "{:.1%}"))
    return found


def queue(seed: int, seconds: float = TRIAL_S) -> slo.Measure:
    """Trials of a simulated server; above its service rate it only falls behind."""

    def measure(rate_per_s: float, trial: int) -> slo.Trial:
        if rate_per_s >= 0.998 * 1e3 / SERVICE_MS:
            return slo.Trial(rate_per_s, math.inf)
        latency = waits_and_service_ms(rate_per_s, SERVICE_MS, int(rate_per_s * seconds), seed * 1_000 + trial)
        return slo.Trial(rate_per_s, float(np.quantile(latency, 0.99)))

    return measure


def capacity() -> list[Figure]:
    """``slo`` with its own default trials: how far from the true capacity, and whether its interval holds it."""
    truth = true_capacity_per_s(SERVICE_MS, 0.99, LIMIT_MS)
    found = [slo.Search(queue(seed), 0.99, LIMIT_MS).run(50.0) for seed in range(SEEDS)]
    rates = np.array([one.rate_per_s or math.nan for one in found])
    inside = [(one.low_per_s or math.inf) <= truth <= (one.high_per_s or -math.inf) for one in found]
    off = np.abs(rates / truth - 1)
    return [
        at_least(f"seeds within 5 % of the true {truth:,.0f}/s", float((off <= 0.05).mean()), 0.9, "{:.1%}"),
        Figure("mean error", f"{float(np.nanmean(rates / truth - 1)):+.1%}"),
        Figure("furthest from the truth", f"{float(np.nanmax(off)):.1%}"),
        Figure("intervals that hold the truth", f"{np.mean(inside):.1%}"),
    ]
