"""The warm-up: the requests at the start of a run, before its steady state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BATCH = 5
MIN_BATCHES = 20
MAX_CUT = 0.5


@dataclass(frozen=True, slots=True)
class Cut:
    """The first ``rows`` requests are the warm-up. ``steady``: False if no steady state began in the first half."""

    rows: int
    steady: bool


def mser5(latency_ns: NDArray[np.int64]) -> Cut:
    """The end of the warm-up by MSER-5 (White, Cobb and Spratt, 2000).

    It minimizes the standard error of the mean latency of the remaining requests. ``latency_ns``: int64 [n], in the
    order of intended instants. The means of five consecutive requests are used, which reduces the weight of the tail.
    If the minimum lies in the second half, latency was still changing there: half of the requests are cut, and the run
    is not steady. Nothing is cut from fewer than a hundred requests.
    """
    batches = len(latency_ns) // BATCH
    if batches < MIN_BATCHES:
        return Cut(0, steady=True)
    means = latency_ns[: batches * BATCH].reshape(batches, BATCH).mean(axis=1)
    remaining = np.arange(batches, 0, -1)
    # Sums from each batch to the end, of standardized values: squares of nanoseconds would exceed a float's precision.
    centred = (means - means.mean()) / (means.std() or 1.0)
    sums, squares = np.cumsum(centred[::-1])[::-1], np.cumsum(centred[::-1] ** 2)[::-1]
    error = (squares - sums**2 / remaining) / remaining**2
    # The last few batches have a small error by chance, because they are few.
    error = error[: batches - BATCH]
    best = int(error.argmin())
    limit = int(batches * MAX_CUT)
    return Cut(best * BATCH, steady=True) if best < limit else Cut(limit * BATCH, steady=False)
