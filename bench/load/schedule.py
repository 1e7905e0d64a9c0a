"""The schedule: the instants at which requests are intended to be sent, known before the first one is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import Unusable

NS_PER_S = 1_000_000_000
MAX_ARRIVALS = 5_000_000
ARRIVALS = ("poisson", "constant")


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Arrivals of an open loop.

    ``offsets_ns``: int64 [n], ascending, nanoseconds after the start of the load, all in [0, ``duration_s``).
    They are fixed before the start and never moved: a request that is sent late is late.
    """

    arrivals: str
    rate_per_s: float
    duration_s: float
    seed: int
    offsets_ns: NDArray[np.int64]


def build(arrivals: str, rate_per_s: float, duration_s: float, seed: int) -> Schedule:
    """The schedule of the named arrival process. Raises Unusable for a rate or duration that makes no load."""
    if arrivals not in ARRIVALS:
        raise Unusable(f"unknown arrivals {arrivals!r}: choose {' or '.join(ARRIVALS)}")
    if not (math.isfinite(rate_per_s) and rate_per_s > 0):
        raise Unusable(f"the rate must be a positive number of requests per second, not {rate_per_s:g}")
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise Unusable(f"the duration must be a positive number of seconds, not {duration_s:g}")
    if rate_per_s * duration_s > MAX_ARRIVALS:
        raise Unusable(
            f"{rate_per_s:g} requests/s for {duration_s:g} s is more than {MAX_ARRIVALS:,} requests: "
            "shorten the run or lower the rate"
        )
    if arrivals == "poisson":
        offsets = poisson_offsets_ns(rate_per_s, duration_s, np.random.default_rng(seed))
    else:
        offsets = constant_offsets_ns(rate_per_s, duration_s)
    return Schedule(arrivals, rate_per_s, duration_s, seed, offsets)


def constant_offsets_ns(rate_per_s: float, duration_s: float) -> NDArray[np.int64]:
    """Evenly spaced instants: the i-th is i / rate, so that rounding does not add up over the run."""
    count = math.ceil(rate_per_s * duration_s)
    offsets = np.floor(np.arange(count, dtype=np.float64) * (NS_PER_S / rate_per_s)).astype(np.int64)
    return offsets[offsets < duration_s * NS_PER_S]


def poisson_offsets_ns(rate_per_s: float, duration_s: float, random: np.random.Generator) -> NDArray[np.int64]:
    """Independent exponential gaps: what many unrelated callers look like together.

    The number of arrivals is itself random (Poisson, mean rate x duration); fixing it would hide the bursts.
    """
    mean = rate_per_s * duration_s
    # Six standard deviations above the mean are enough in all but one of a billion runs; the loop covers that one.
    chunk = int(mean + 6 * math.sqrt(mean)) + 16
    instants_s = np.cumsum(random.exponential(1 / rate_per_s, chunk))
    while instants_s[-1] < duration_s:
        more = instants_s[-1] + np.cumsum(random.exponential(1 / rate_per_s, chunk))
        instants_s = np.concatenate([instants_s, more])
    offsets: NDArray[np.int64] = np.floor(instants_s * NS_PER_S).astype(np.int64)
    return offsets[offsets < duration_s * NS_PER_S]
