"""A simulated server: the rows that a load on it leaves, from the server's own queue and a known time of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.explain.simulator import MS, Arrival, simulate
from bench.load.measurements import COLUMNS, Outcome
from bench.load.schedule import build
from bench.observe.model_work import Choices, Cost, ModelWork
from server.request import NEVER
from server.scheduling.batch import Batch
from server.scheduling.queue import BatchQueue
from tests.unit.bench.planted_facts import work

Columns = dict[str, NDArray[np.int64]]
SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class World:
    """A server: S(b) = ``fixed_ms`` + ``per_row_ms`` b with scatter ``cv``, longer by ``crowding`` for each run beside.

    ``decode_us`` and ``encode_us``: mean times of the codec. ``stop_ms``: of one run in 500.
    """

    fixed_ms: float = 2.0
    per_row_ms: float = 0.5
    cv: float = 0.1
    crowding: float = 0.0
    largest: int = 8
    instances: int = 1
    timer_us: int = 0
    decode_us: float = 100.0
    encode_us: float = 80.0
    stop_ms: float = 0.0
    content_type: str = field(default="application/json")

    def ms(self, rows: int) -> float:
        return self.fixed_ms + self.per_row_ms * rows

    def works(self) -> tuple[ModelWork, ...]:
        """What the server tells of itself."""
        costs = tuple(Cost(0, rows, self.ms(rows)) for rows in SIZES if rows <= self.largest)
        choices = Choices(self.largest, self.timer_us / 1e3, 1e3, inline=False, contention=1 + self.crowding)
        told = {"instances": self.instances, "threads": self.instances, "costs": costs, "choices": choices}
        return (work(seconds=20.0, runs=100.0, rows=100.0, busy=None, **told),)

    def columns(self, rate_per_s: float, seconds: float, seed: int) -> Columns:
        """The rows of a load, all of them measured."""
        random = np.random.default_rng((seed, 7))
        due = build("poisson", rate_per_s, seconds, seed).offsets_ns
        count = len(due)
        parts = {name: self._times(us, count, random) for name, us in (("decode", self.decode_us), ("scatter", 20.0))}
        parts["encode"] = self._times(self.encode_us, count, random)
        rest = self._times(150.0, count, random)
        ready = due + parts["decode"]
        order = np.argsort(ready, kind="stable")
        picked, took, batch = (np.zeros(count, np.int64) for _ in range(3))
        cost_ns = self._cost(random, order, picked, took, batch)
        seeds = [(rows, self.ms(rows) * MS) for rows in SIZES if rows <= self.largest]
        queue = BatchQueue(self.largest, seeds, self.instances, self.timer_us * 1_000, contention=1 + self.crowding)
        arrivals = [Arrival(at) for at in ready[order].tolist()]
        done = np.zeros(count, np.int64)
        outcome = simulate(arrivals, queue, cost_ns, NEVER, lambda busy: 1 + self.crowding * (busy - 1))
        done[order] = outcome.done_ns
        last = done + parts["scatter"] + parts["encode"] + rest
        found = {"index": np.arange(count), "batch": batch, "outcome": np.full(count, int(Outcome.OK))}
        found |= {"due_ns": due, "picked_ns": due, "send_ns": due, "sent_ns": due}
        found |= {"first_byte_ns": last, "last_byte_ns": last, "status": np.full(count, 200)}
        found |= {f"{name}_ns": values for name, values in parts.items()}
        # Runs of one batch share their stamps, as a real server's do.
        found |= {"queue_busy_ns": picked - ready, "compute_ns": done - picked, "assemble_ns": took % 997}
        found["compute_ns"] -= found["assemble_ns"]
        return {name: found.get(name, np.zeros(count, np.int64)) for name in COLUMNS}

    @staticmethod
    def _times(mean_us: float, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        return (random.gamma(4.0, mean_us * 250.0, count)).astype(np.int64)

    def _cost(
        self,
        random: np.random.Generator,
        order: NDArray[np.intp],
        picked: NDArray[np.int64],
        took: NDArray[np.int64],
        batch: NDArray[np.int64],
    ) -> Callable[[Batch], int]:
        """The time of a run; it notes for each request when its run began, and its size."""
        spread = float(np.sqrt(np.log1p(self.cv**2)))

        def cost_ns(one: Batch) -> int:
            lasts = self.ms(one.rows) * random.lognormal(-(spread**2) / 2, spread) * MS
            lasts += self.stop_ms * MS * (random.random() < 0.002)
            for request, _, _ in one.slices:
                index = order[request.context[0]]
                picked[index], took[index], batch[index] = one.picked_ns, int(lasts), one.rows
            return int(lasts)

        return cost_ns
