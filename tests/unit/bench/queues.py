"""Simulated queues with known percentiles and capacity, to check the statistics and the search."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench.experiments import capacity
from bench.result import statistics

SERVICE_MS = 1.0
RATE_PER_S, RUN_S = 800.0, 30.0
LIMIT_MS, TRIAL_S = 50.0, 10.0


def waits_and_service_ms(rate_per_s: float, service_ms: float, count: int, seed: int) -> NDArray[np.float64]:
    """Latencies [count] of an M/M/1 queue that is already in its steady state.

    Lindley in closed form: the wait is how far the random walk of (service - gap) is above its lowest point so far.
    """
    random = np.random.default_rng(seed)
    warm = 5_000
    service = random.exponential(service_ms, count + warm)
    gaps = random.exponential(1e3 / rate_per_s, count + warm)
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:])])
    waits = walk - np.minimum.accumulate(walk)
    latency: NDArray[np.float64] = (waits + service)[warm:]
    return latency


def true_quantile_ms(rate_per_s: float, service_ms: float, quantile: float) -> float:
    """Of an M/M/1 queue's latency, which is exponential with rate (service rate - arrival rate)."""
    return -math.log(1 - quantile) * 1e3 / (1e3 / service_ms - rate_per_s)


def true_capacity_per_s(service_ms: float, quantile: float, limit_ms: float) -> float:
    """The rate at which that quantile reaches the limit."""
    return 1e3 / service_ms + math.log(1 - quantile) * 1e3 / limit_ms


def coverage(quantile: float, repeats: int, seconds: float = RUN_S, trials: int = 200) -> float:
    """The share of ``trials`` at 80 % load whose interval contains the true percentile. ``repeats``: runs per trial."""
    truth_ns = true_quantile_ms(RATE_PER_S, SERVICE_MS, quantile) * 1e6
    count = round(RATE_PER_S * seconds)
    covered = 0
    for trial in range(trials):
        parts = [waits_and_service_ms(RATE_PER_S, SERVICE_MS, count, 100 * trial + one) for one in range(repeats)]
        latency_ns = (np.concatenate(parts) * 1e6).astype(np.int64)
        low, high, _ = statistics.interval(latency_ns, quantile, np.repeat(np.arange(repeats), count))
        covered += low <= truth_ns <= high
    return covered / trials


def queue(seed: int, seconds: float = TRIAL_S) -> capacity.Measure:
    """Trials of a simulated server, for the search. Above its service rate, latency is infinite."""

    def measure(rate_per_s: float, trial: int) -> capacity.Trial:
        if rate_per_s >= 0.998 * 1e3 / SERVICE_MS:
            return capacity.Trial(rate_per_s, math.inf)
        latency = waits_and_service_ms(rate_per_s, SERVICE_MS, int(rate_per_s * seconds), seed * 1_000 + trial)
        return capacity.Trial(rate_per_s, float(np.quantile(latency, 0.99)))

    return measure
