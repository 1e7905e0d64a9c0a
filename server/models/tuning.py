"""Tuning at load: how many instances, and threads for each, give the most rows a second on the cores at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Protocol

from ..backends import Session
from ..tensors import Array
from .side_by_side import LEAST_RUNS, Seen, side_by_side

log = logging.getLogger("slipway.models")

ROWS = 8
"""Most rows of the runs that are compared: enough for threads to have something to share."""

RUNS = LEAST_RUNS + 1
"""Least runs of an instance to measure a way: one goes first, so that nothing that happens once is measured."""

ALIKE = 0.95
"""Within this share of the most rows a second the shorter run wins: figures of a fraction of a second say no more."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One way to use the cores, and what it gave."""

    instances: int
    threads: int
    rows_per_s: float
    run_ns: float

    def __str__(self) -> str:
        return f"{self.instances} x {self.threads}: {self.rows_per_s:.0f} rows/s, {self.run_ns / 1e6:.2f} ms"


@dataclass(frozen=True, slots=True)
class Tuned:
    """An open session and how to run it."""

    session: Session
    instances: int
    threads: int


class Measure(Protocol):
    """As :func:`side_by_side`."""

    def __call__(
        self, run: Callable[[Sequence[Array]], object], inputs: Sequence[Array], instances: int, most_ns: int
    ) -> Seen: ...


def ways(cores: int) -> Iterator[tuple[int, int]]:
    """(instances, threads) that use all cores, from one wide instance on: numbers of instances are powers of two."""
    instances = 1
    while instances <= cores:
        yield instances, cores // instances
        instances *= 2
    if cores & (cores - 1):  # not a power of two: one instance a core has not been among them
        yield cores, 1


@dataclass(frozen=True, slots=True)
class Bench:
    """What tuning may use: ``open(threads)`` opens a session, which takes ``opening_ns``; ``budget_ns`` is for all."""

    open: Callable[[int], Session]
    opening_ns: int
    cores: int
    budget_ns: int
    measure: Measure = side_by_side
    clock: Callable[[], int] = perf_counter_ns


def tune(session: Session, inputs_of: Callable[[int], list[Array]], run_ns: int, bench: Bench) -> Tuned:
    """Try the ways to use the cores, as far as the budget goes.

    ``session`` was opened for one instance on all cores; a row takes ``run_ns``. There is never more than one session
    open, so that memory stays what it is: the one that comes back may be another one. When the model fails, which is
    raised, none is left open.
    """
    all_ways = list(ways(bench.cores))
    running_ns = bench.budget_ns - bench.opening_ns * len(all_ways)
    affordable = running_ns // (RUNS * len(all_ways) * max(run_ns, 1))
    if affordable < 1:
        log.info(
            "instances are not tuned: opening the model took %.0f ms and a row %.1f ms, too long to try %d ways in "
            "%.0f ms: raise --tune-ms, or set --instances and --threads",
            *(bench.opening_ns / 1e6, run_ns / 1e6, len(all_ways), bench.budget_ns / 1e6),
        )
        return Tuned(session, 1, bench.cores)
    inputs = inputs_of(min(ROWS, affordable))
    slice_ns = running_ns // len(all_ways)
    until_ns = bench.clock() + bench.budget_ns
    tried: list[Tried] = []
    now = Tuned(session, 1, bench.cores)
    try:
        for instances, threads in all_ways:
            if bench.clock() >= until_ns:
                break
            now = _switched(now, instances, threads, bench)
            now.session.run(inputs)
            seen = bench.measure(now.session.run, inputs, instances, slice_ns)
            tried.append(Tried(instances, threads, seen.runs_per_s * len(inputs[0]), seen.run_ns))
        best = choose(tried)
        log.info(
            "instances x threads, at %d rows a run: %s; %d of %d ways tried, taken: %d x %d",
            *(len(inputs[0]), "; ".join(map(str, tried)), len(tried), len(all_ways), best.instances, best.threads),
        )
    except BaseException:
        now.session.close()
        raise
    return _switched(now, best.instances, best.threads, bench)


def choose(tried: Sequence[Tried]) -> Tried:
    """The most rows a second; among those that are about as good the shortest run."""
    most = max(one.rows_per_s for one in tried)
    return min((one for one in tried if one.rows_per_s >= ALIKE * most), key=lambda one: one.run_ns)


def _switched(now: Tuned, instances: int, threads: int, bench: Bench) -> Tuned:
    if now.threads == threads:
        return Tuned(now.session, instances, threads)
    now.session.close()
    return Tuned(bench.open(threads), instances, threads)
