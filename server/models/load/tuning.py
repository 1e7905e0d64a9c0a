"""Tuning at load: the instances, and threads of each, that give the most rows a second on the cores at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Protocol

from ...backends import Session
from ...tensors import Array
from .contention import LEAST_RUNS, run_at_once

log = logging.getLogger("slipway.models")

ROWS = 8
"""Most rows of the runs that are compared: enough for threads to have something to share."""

RUNS = LEAST_RUNS + 1
"""Least runs of an instance to measure a split: the first is not counted, because it does what happens only once."""

ALIKE = 0.95
"""Within this share of the most rows a second the shorter run wins: so short a measurement says no more."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One split of the cores, and what it gave."""

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
    """As :func:`run_at_once`."""

    def __call__(
        self, run: Callable[[Sequence[Array]], object], inputs: Sequence[Array], instances: int, most_ns: int
    ) -> float: ...


def splits(cores: int) -> Iterator[tuple[int, int]]:
    """(instances, threads) that use all cores, from one wide instance on: numbers of instances are powers of two."""
    instances = 1
    while instances <= cores:
        yield instances, cores // instances
        instances *= 2
    if cores & (cores - 1):  # not a power of two: one instance a core has not been among them
        yield cores, 1


@dataclass(frozen=True, slots=True)
class TuningConfig:
    """How tuning opens and measures sessions.

    ``open(threads)`` opens a session and takes ``opening_ns``; ``budget_ns`` is the time for all splits together.
    ``batchable``: the model's inputs are rows; without that a run counts as one row.
    """

    open: Callable[[int], Session]
    opening_ns: int
    cores: int
    budget_ns: int
    measure: Measure = run_at_once
    clock: Callable[[], int] = perf_counter_ns
    batchable: bool = True


def tune(session: Session, inputs_of: Callable[[int], list[Array]], row_ns: float, config: TuningConfig) -> Tuned:
    """Measure the splits of the cores, as far as the budget goes, and return the best one with an open session.

    ``session`` was opened for one instance on all cores; a row takes ``row_ns``. Never more than one session is open,
    so that memory does not grow: the session that is returned may be another one. Raises what the model raises; then
    no session is left open.
    """
    candidates = list(splits(config.cores))
    running_ns = config.budget_ns - config.opening_ns * len(candidates)
    affordable = int(running_ns // (RUNS * len(candidates) * max(row_ns, 1)))
    if affordable < 1:
        log.info(
            "instances are not tuned opening_ms=%.0f row_ms=%.1f splits=%d budget_ms=%.0f; raise --tune-ms, or set "
            "--instances and --threads",
            *(config.opening_ns / 1e6, row_ns / 1e6, len(candidates), config.budget_ns / 1e6),
        )
        return Tuned(session, 1, config.cores)
    rows = min(ROWS, affordable) if config.batchable else 1
    inputs = inputs_of(rows)
    slice_ns = running_ns // len(candidates)
    until_ns = config.clock() + config.budget_ns
    measured: list[Measurement] = []
    now = Tuned(session, 1, config.cores)
    try:
        for instances, threads in candidates:
            if config.clock() >= until_ns:
                break
            now = _switched(now, instances, threads, config)
            now.session.run(inputs)
            run_ns = config.measure(now.session.run, inputs, instances, slice_ns)
            measured.append(Measurement(instances, threads, instances * rows / run_ns * 1e9, run_ns))
        best = choose(measured)
        log.info(
            "instances tuned instances=%d threads=%d measured=%d of=%d rows_a_run=%d measurements=%r",
            *(best.instances, best.threads, len(measured), len(candidates), rows),
            "; ".join(map(str, measured)),
        )
    except BaseException:
        now.session.close()
        raise
    return _switched(now, best.instances, best.threads, config)


def choose(measured: Sequence[Measurement]) -> Measurement:
    """The most rows a second; among those that are about as good the shortest run."""
    most = max(one.rows_per_s for one in measured)
    return min((one for one in measured if one.rows_per_s >= ALIKE * most), key=lambda one: one.run_ns)


def _switched(now: Tuned, instances: int, threads: int, config: TuningConfig) -> Tuned:
    if now.threads == threads:
        return Tuned(now.session, instances, threads)
    now.session.close()
    return Tuned(config.open(threads), instances, threads)
