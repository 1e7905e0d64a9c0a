"""Figures of the statistics on simulated queues with known percentiles: intervals, and ``bench slo``."""

from __future__ import annotations

import math

import numpy as np

from bench.experiments.capacity import Search
from tests.benchmarks.bench.figure import Figure, at_least
from tests.unit.bench.queues import LIMIT_MS, RUN_S, SERVICE_MS, coverage, queue, true_capacity_per_s

REPEATS, SEEDS = 5, 40


def intervals() -> list[Figure]:
    """One run and five repeats, at the percentiles that are shown."""
    found = []
    for repeats in (1, REPEATS):
        runs = "one run" if repeats == 1 else f"{repeats} repeats"
        for quantile in (0.5, 0.95, 0.99):
            name = f"p{100 * quantile:g} of {runs} of {RUN_S:g} s: intervals that hold the truth"
            found.append(at_least(name, coverage(quantile, repeats), 0.85, "{:.1%}"))
    return found


def capacity() -> list[Figure]:
    """``bench slo`` with its default trials: its error, and whether its interval contains the true capacity."""
    truth = true_capacity_per_s(SERVICE_MS, 0.99, LIMIT_MS)
    found = [Search(queue(seed), 0.99, LIMIT_MS).run(50.0) for seed in range(SEEDS)]
    rates = np.array([one.rate_per_s or math.nan for one in found])
    inside = [(one.low_per_s or math.inf) <= truth <= (one.high_per_s or -math.inf) for one in found]
    off = np.abs(rates / truth - 1)
    return [
        at_least(f"seeds within 5 % of the true {truth:,.0f}/s", float((off <= 0.05).mean()), 0.9, "{:.1%}"),
        Figure("mean error", f"{float(np.nanmean(rates / truth - 1)):+.1%}"),
        Figure("furthest from the truth", f"{float(np.nanmax(off)):.1%}"),
        Figure("intervals that hold the truth", f"{np.mean(inside):.1%}"),
    ]
