"""What the queue's decisions are worth, in virtual time: mixed shapes, overload, deadlines. Every figure is exact."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.micro.simulator import MS, SECOND, Arrival, Outcome, poisson, simulate
from server.scheduling.queue import Batch, BatchQueue

FIXED_NS, ROW_NS, LARGEST = 4 * MS, 1 * MS, 8
"""A run takes 4 ms and 1 ms a row, for eight rows at most: alone 5 ms a row, at best 1.5."""

CAPACITY = LARGEST / (FIXED_NS + LARGEST * ROW_NS) * SECOND
"""Rows a second at the best batch size."""

ALONE = SECOND / (FIXED_NS + ROW_NS)
"""Rows a second without batching."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: what was reached, what was wanted, as shares of 1."""

    name: str
    reached: float
    wanted: float

    def __str__(self) -> str:
        return f"decisions: {self.name}: {self.reached:.2%} (wanted: {self.wanted:.2%})"


def figures(seed: int = 0) -> list[Figure]:
    """All of them; the same seed gives the same figures on every machine."""
    return [alternating_shapes(seed), *overload(seed), deadlines(seed)]


def alternating_shapes(seed: int) -> Figure:
    """Two shapes in turns at twice the capacity of single requests, against the same rows sorted by shape."""
    arrivals = poisson(2 * ALONE, 30, seed)
    mixed = [replace(one, shape="ab"[index % 2]) for index, one in enumerate(arrivals)]
    shapes = sorted(one.shape for one in mixed)
    by_shape = [replace(one, shape=shape) for one, shape in zip(arrivals, shapes, strict=True)]
    return Figure("alternating shapes against sorted ones, goodput", run(mixed).goodput / run(by_shape).goodput, 0.9)


def overload(seed: int) -> list[Figure]:
    """Offered load of three and ten times the capacity, against the best goodput below it; what is late counts not."""
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


def run(arrivals: list[Arrival]) -> Outcome:
    """The queue as the server would build it for this model, and an instance that takes as long as the law says."""
    seeds = [(rows, float(FIXED_NS + ROW_NS * rows)) for rows in (1, 2, 4, LARGEST)]
    return simulate(arrivals, BatchQueue(LARGEST, seeds), cost_ns, max_queue_ns=SECOND)


def cost_ns(batch: Batch) -> int:
    return FIXED_NS + ROW_NS * batch.rows


def lost(one: Outcome) -> int:
    return one.refused + one.expired
