"""Queues with known answers, simulated by Lindley's recursion, so that statistics can be held to the truth."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


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
