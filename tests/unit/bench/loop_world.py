"""A simulated server that runs its model on the event loop: the rows that a load on it leaves. It shares no code with
the simulation of forecasts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.load.measurements import COLUMNS, Outcome
from bench.load.schedule import build
from bench.load.server_timing import MISSING
from bench.observe.model_work import Choices, ModelWork
from tests.unit.bench.simulated_server import World

Columns = dict[str, NDArray[np.int64]]
US = 1_000


@dataclass(frozen=True, slots=True)
class LoopWorld:
    """All times in us. Each request costs the loop ``decode``, ``encode``, and ``own`` that no stage counts; a run of n
    rows costs ``fixed`` + n ``per_row``. ``outside``: mean time on the way."""

    decode: float = 60.0
    encode: float = 40.0
    own: float = 50.0
    fixed: float = 120.0
    per_row: float = 20.0
    outside: float = 150.0
    largest: int = 8

    def works(self) -> tuple[ModelWork, ...]:
        (work,) = World(fixed_ms=self.fixed / 1e3, per_row_ms=self.per_row / 1e3, largest=self.largest).works()
        return (replace(work, choices=Choices(self.largest, 0.0, 1e3, inline=True, contention=1.0)),)

    def columns(self, rate_per_s: float, seconds: float, seed: int) -> tuple[Columns, float]:
        """The rows, and the ns of loop work for each request."""
        due = build("poisson", rate_per_s, seconds, seed).offsets_ns.tolist()
        random = np.random.default_rng((seed, 3))
        told = {
            name: [0] * len(due) for name in ("decode", "queue_busy", "compute", "scatter", "encode", "batch", "last")
        }
        at, now, worked = 0, 0, 0
        while at < len(due):
            now, end = max(now, due[at]), at
            begun = now
            while end < len(due) and due[end] <= begun:
                end += 1
            decoded = []
            for _ in range(at, end):
                now += round(self.decode * US)
                decoded.append(now)
            for first in range(at, end, self.largest):
                members = range(first, min(first + self.largest, end))
                picked = now
                lasts = round((self.fixed + self.per_row * len(members)) * US * random.lognormal(0, 0.1))
                computed = now = picked + lasts
                for one in members:
                    told["decode"][one], told["batch"][one] = round(self.decode * US), len(members)
                    told["queue_busy"][one] = picked - decoded[one - at]
                    told["compute"][one], told["scatter"][one] = lasts, now - computed
                    told["encode"][one] = round(self.encode * US)
                    now += round((self.encode + self.own) * US)
                    told["last"][one] = now + round(random.exponential(self.outside * US))
            worked, at = worked + now - begun, end
        return self._rows(np.array(due), {name: np.array(values) for name, values in told.items()}), worked / len(due)

    @staticmethod
    def _rows(due: NDArray[np.int64], told: Columns) -> Columns:
        count = len(due)
        found = {"index": np.arange(count), "outcome": np.full(count, int(Outcome.OK)), "status": np.full(count, 200)}
        found |= {"due_ns": due, "picked_ns": due, "send_ns": due, "sent_ns": due, "batch": told["batch"]}
        found |= {"first_byte_ns": told["last"], "last_byte_ns": told["last"], "rows": np.ones(count, np.int64)}
        found |= {f"{name}_ns": values for name, values in told.items() if name not in ("batch", "last")}
        found |= {f"{name}_ns": np.zeros(count, np.int64) for name in ("receive", "assemble", "queue_timer")}
        found |= {name: np.zeros(count, np.int64) for name in ("repeat", "payload", "bytes_in", "bytes_out")}
        return {name: found.get(name, np.full(count, MISSING, np.int64)) for name in COLUMNS}
