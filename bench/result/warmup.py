"""The warm-up: the rows at the start of a run before its steady state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BATCH = 5
MIN_BATCHES = 20
MAX_CUT = 0.5


@dataclass(frozen=True, slots=True)
class Cut:
    """The first ``rows`` requests are warm-up. ``steady``: False without a steady state in the first half."""

    rows: int
    steady: bool


def mser5(latency_ns: NDArray[np.int64]) -> Cut:
    """MSER-5 (White, Cobb and Spratt, 2000): the cut that leaves the mean of the rest with the least standard error.

    ``latency_ns``: int64 [n], in the order of intended instants. Means of five requests reduce the weight of the tail.
    A minimum in the second half means that latency still changed there: then half is cut, and the run is not steady.
    Fewer than a hundred requests are too few for a cut.
    """
    batches = len(latency_ns) // BATCH
    if batches < MIN_BATCHES:
        return Cut(0, steady=True)
    means = latency_ns[: batches * BATCH].reshape(batches, BATCH).mean(axis=1)
    left = np.arange(batches, 0, -1)
    # Sums from each batch to the end, of centred values: squares of nanoseconds would exhaust the digits of a float.
    centred = (means - means.mean()) / (means.std() or 1.0)
    sums, squares = np.cumsum(centred[::-1])[::-1], np.cumsum(centred[::-1] ** 2)[::-1]
    error = (squares - sums**2 / left) / left**2
    # The last few batches have a small error by chance, because they are few.
    error = error[: batches - BATCH]
    best = int(error.argmin())
    limit = int(batches * MAX_CUT)
    return Cut(best * BATCH, steady=True) if best < limit else Cut(limit * BATCH, steady=False)
