"""Figures of the queue's decisions in virtual time: mixed shapes, overload, deadlines, shared cores.

Every figure is exact for its seed. The benchmark ``decisions`` prints them, and a unit test holds them.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np

from bench.explain.simulator import MS, SECOND, Arrival, Outcome, poisson, simulate
from server.scheduling.batch import Batch
from server.scheduling.queue import BatchQueue

FIXED_NS, ROW_NS, LARGEST = 4 * MS, 1 * MS, 8
"""A run takes 4 ms and 1 ms a row, for eight rows at most: alone 5 ms a row, at best 1.5."""

CAPACITY = LARGEST / (FIXED_NS + LARGEST * ROW_NS) * SECOND
"""Rows a second at the best batch size."""

ALONE = SECOND / (FIXED_NS + ROW_NS)
"""Rows a second without batching."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: the figure that was reached and the one that is wanted, as shares of 1."""

    name: str
    reached: float
    wanted: float

    def __str__(self) -> str:
        return f"decisions: {self.name}: {self.reached:.2%} (wanted: {self.wanted:.2%})"


def figures(seed: int = 0) -> list[Figure]:
    """All figures; the same seed gives the same figures on every machine."""
    return [alternating_shapes(seed), *overload(seed), *scattered(seed), deadlines(seed), *shared_core(seed)]


def alternating_shapes(seed: int) -> Figure:
    """Two shapes in turns at twice the capacity of single requests, against the same rows sorted by shape."""
    arrivals = poisson(2 * ALONE, 30, seed)
    mixed = [replace(one, shape="ab"[index % 2]) for index, one in enumerate(arrivals)]
    shapes = sorted(one.shape for one in mixed)
    by_shape = [replace(one, shape=shape) for one, shape in zip(arrivals, shapes, strict=True)]
    return Figure("alternating shapes against sorted ones, goodput", run(mixed).goodput / run(by_shape).goodput, 0.9)


def overload(seed: int) -> list[Figure]:
    """Offered load of 3 and 10 times the capacity, against the best goodput up to the capacity."""
    peak = max(run(poisson(load * CAPACITY, 20, seed)).goodput for load in (0.8, 0.9, 1.0))
    outcomes = {load: run(poisson(load * CAPACITY, 20, seed, allowed_ns=SECOND)) for load in (3, 10)}
    goodput = [
        Figure(f"goodput at {load} times the capacity, of its peak", one.goodput / peak, 0.95)
        for load, one in outcomes.items()
    ]
    late = max(one.late / one.answered for one in outcomes.values())
    depth = outcomes[10].deepest / outcomes[3].deepest
    return [
        *goodput,
        Figure("answers that were not late under overload", 1 - late, 1.0),
        Figure("deepest queue at 10 times, of that at 3 times the capacity", depth, 1.1),
    ]


def deadlines(seed: int) -> Figure:
    """50 ms for each request at 80 % of the capacity: the share that is answered in time."""
    one = run(poisson(0.8 * CAPACITY, 60, seed, allowed_ns=50 * MS))
    return Figure(
        "in time, with 50 ms at 80 % of the capacity", (one.answered - one.late) / (one.answered + lost(one)), 0.999
    )


def scattered(seed: int) -> list[Figure]:
    """3 times the capacity where the machine's speed drifts by a quarter and runs scatter, against its best goodput.

    The difference is the goodput that admission loses to wrong predictions.
    """
    peak = max(run_scattered(load, seed).goodput for load in (0.7, 0.8, 0.9))
    one = run_scattered(3, seed)
    return [
        Figure("goodput at 3 times the capacity where runs scatter, of its peak", one.goodput / peak, 0.95),
        Figure("answers that were not late then", 1 - one.late / one.answered, 0.995),
    ]


def run_scattered(load: float, seed: int) -> Outcome:
    random = np.random.default_rng(seed)
    runs = itertools.count()

    def taken_ns(batch: Batch) -> int:
        drift = 1 + 0.25 * math.sin(next(runs) / 60)
        return int(cost_ns(batch) * drift * random.uniform(0.9, 1.4))

    return simulate(poisson(load * CAPACITY, 20, seed, allowed_ns=SECOND), queue(), taken_ns, max_queue_ns=SECOND)


def shared_core(seed: int) -> list[Figure]:
    """The mean wait of one instance at half the capacity of a core, over that of four instances on the same core.

    The second figure is of a queue that must learn the contention from its runs.
    """
    arrivals = poisson(CAPACITY / 2, 20, seed)
    one, informed, uninformed = (
        float(np.mean(simulate(arrivals, queue(count, contention), cost_ns, slower=float).waits_ns))
        for count, contention in ((1, 1.0), (4, 4.0), (4, 1.0))
    )
    return [
        Figure("mean wait of one instance, of that of four on its core", one / informed, 0.9),
        Figure("the same, if the queue must learn the contention", one / uninformed, 0.5),
    ]


def queue(instances: int = 1, contention: float = 1.0) -> BatchQueue:
    """As the server would build it for this model."""
    seeds = [(rows, float(FIXED_NS + ROW_NS * rows)) for rows in (1, 2, 4, LARGEST)]
    return BatchQueue(LARGEST, seeds, instances, contention=contention)


def run(arrivals: list[Arrival]) -> Outcome:
    """Simulate the queue and one instance whose runs take ``cost_ns``."""
    return simulate(arrivals, queue(), cost_ns, max_queue_ns=SECOND)


def cost_ns(batch: Batch) -> int:
    return FIXED_NS + ROW_NS * batch.rows


def lost(one: Outcome) -> int:
    return one.refused + one.expired
