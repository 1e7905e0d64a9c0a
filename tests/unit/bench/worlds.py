"""Worlds: a server with one instance and a fault of any size, and the rows that a load on it leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.load.measurements import COLUMNS, Outcome
from bench.load.server_timing import MISSING

Columns = dict[str, NDArray[np.int64]]
Floats = NDArray[np.float64]
MS = 1e6


@dataclass(frozen=True, slots=True)
class World:
    """All times in ms; exponential ones by their mean.

    A run of n rows takes ``fixed`` + n (``per_row`` + length x ``per_position``), by the longest of them, with
    lognormal scatter. A share ``long_share`` of the requests has ``long`` positions, the others ``short``. ``timer``:
    the server waits for a batch to fill. ``decode``, ``receive``: of each request. ``lag``: of the generator, for a
    share ``lag_share``. ``stop_every_s``, ``stop``: the whole server stops. ``cold``: the first run takes more.
    ``cached``: the share that a cache answers. ``tells``: the server tells rows, length, queue and cache.
    """

    rate_per_s: float = 40.0
    seconds: float = 12.0
    fixed: float = 2.0
    per_row: float = 0.3
    per_position: float = 0.0
    short: int = 16
    long: int = 16
    long_share: float = 0.0
    largest: int = 8
    timer: float = 0.0
    decode: float = 0.1
    receive: float = 0.05
    lag: float = 0.0
    lag_share: float = 0.0
    stop_every_s: float = 0.0
    stop: float = 0.0
    cold: float = 0.0
    cached: float = 0.0
    tells: bool = True

    def rows(self, seed: int) -> Columns:
        """The rows of the load, in schedule order."""
        random = np.random.default_rng(seed)
        due = np.cumsum(random.exponential(1e3 / self.rate_per_s, int(self.rate_per_s * self.seconds)))
        count = len(due)
        lag = random.exponential(0.02, count) + self.lag * random.exponential(1, count) * self._some(
            self.lag_share, random, count
        )
        receive, decode = (mean * random.gamma(8, 1 / 8, count) for mean in (self.receive, self.decode))
        rest = random.exponential(0.15, count)
        length = np.where(self._some(self.long_share, random, count), self.long, self.short)
        cached = self._some(self.cached, random, count)
        ready = self._past_stops(due + lag + receive) + decode
        begun, compute, timer, batch, padded = self._run(ready, length, ~cached, random)
        last = self._past_stops(begun + compute) + 0.1 + rest
        return self._columns(
            due, lag, receive, decode, ready, begun, compute, timer, batch, padded, last, length, cached
        )

    @staticmethod
    def _some(share: float, random: np.random.Generator, count: int) -> NDArray[np.bool_]:
        return random.random(count) < share

    def _past_stops(self, at: Floats) -> Floats:
        """The end of the stop in which an instant lies, else the instant."""
        if not self.stop_every_s:
            return at
        into = at % (1e3 * self.stop_every_s)
        return np.where((at > into) & (into < self.stop), at - into + self.stop, at)

    def _run(
        self, ready: Floats, length: NDArray[np.int64], queued: NDArray[np.bool_], random: np.random.Generator
    ) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """By request: begin and time of its run, its wait for the timer, and rows and length of the run."""
        begun, compute, timer, batch, padded = ready.copy(), *(np.zeros(len(ready)) for _ in range(4))
        order = np.flatnonzero(queued)[np.argsort(ready[queued], kind="stable")]
        arrive = ready[order]
        free, at = 0.0, 0
        while at < len(order):
            could = max(free, arrive[at])
            full = arrive[at + self.largest - 1] if at + self.largest <= len(order) else np.inf
            begin = max(could, min(arrive[at] + self.timer, full))
            begin = float(self._past_stops(np.array([begin]))[0])
            end = at + max(int(np.searchsorted(arrive[at : at + self.largest], begin, "right")), 1)
            members = order[at:end]
            longest = length[members].max()
            lasts = self.fixed + (end - at) * (self.per_row + longest * self.per_position)
            lasts = lasts * random.lognormal(0, 0.08) + (self.cold if at == 0 else 0.0)
            begun[members], compute[members], batch[members], padded[members] = begin, lasts, end - at, longest
            timer[members] = np.maximum(begin - np.maximum(could, ready[members]), 0.0) if self.timer else 0.0
            free, at = float(self._past_stops(np.array([begin + lasts]))[0]), end
        return begun, compute, timer, batch, padded

    def _columns(
        self, due: Floats, lag: Floats, receive: Floats, decode: Floats, ready: Floats, begun: Floats, compute: Floats,
        timer: Floats, batch: Floats, padded: Floats, last: Floats, length: NDArray[np.int64],
        cached: NDArray[np.bool_],
    ) -> Columns:  # fmt: skip
        sent = due + lag
        told = {"receive": receive, "decode": decode, "queue_timer": timer, "queue_busy": begun - ready - timer}
        told |= {"compute": compute, "assemble": 0 * due, "scatter": 0 * due, "encode": 0 * due + 0.1}
        times = {"due": due, "picked": sent, "send": sent, "sent": sent, "first_byte": last, "last_byte": last, **told}
        found = {f"{name}_ns": (values * MS).astype(np.int64) for name, values in times.items()}
        found |= {"index": np.arange(len(due)), "status": np.full(len(due), 200), "bytes_in": np.full(len(due), 600)}
        found |= {"outcome": np.full(len(due), int(Outcome.OK)), "batch": batch.astype(np.int64)}
        found |= {
            "payload": (length > self.short).astype(np.int64),
            "bytes_out": 20 * length,
            "repeat": 0 * found["index"],
        }
        if self.tells:
            ahead = np.searchsorted(np.sort(ready), ready) - np.searchsorted(np.sort(begun), ready)
            found |= {"rows": np.ones(len(due), np.int64), "ahead": np.where(cached, MISSING, np.maximum(ahead, 0))}
            found |= {"cached": np.where(cached, 1, MISSING), "length": np.where(cached, MISSING, length)}
            found |= {"padded": np.where(cached, MISSING, padded.astype(np.int64))}
        return {name: found.get(name, np.full(len(due), MISSING, np.int64)) for name in COLUMNS}
