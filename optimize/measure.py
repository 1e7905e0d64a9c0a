"""Measurement: how long every candidate takes at every batch size and thread count, in interleaved rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.backends import BackendOptions, Session, loader
from server.tensors import Array

from .dataset import Dataset
from .passes import backend_of

Clock = Callable[[], int]
"""Nanoseconds from some fixed moment."""

Progress = Callable[[int, int], None]
"""Called with (rounds done, rounds in all)."""

WARM_UP_RUNS = 3
MOST_RUNS = 200
"""Runs of one cell in one round: enough for a median, short enough that the next cell sees the same machine."""

FEWEST_ROUNDS = 5
"""Rounds of a measurement that does not fit into its budget: below that there is no interval to speak of."""

MOST_OVERRUN = 1.5
"""Times its budget that a measurement may take before it ends with the rounds that it has."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What is timed: one candidate at one batch size with so many intra-op threads."""

    candidate: str
    batch_size: int
    threads: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of single runs of a cell: the median of every round in order, and percentiles over all runs."""

    rounds_us: tuple[float, ...]
    p50_us: float
    p95_us: float
    runs: int

    def to_json(self) -> dict[str, Any]:
        return {"p50_us": round(self.p50_us, 2), "p95_us": round(self.p95_us, 2), "runs": self.runs}


Timings = Mapping[Cell, Timing]


@dataclass(frozen=True, slots=True)
class Layout:
    """So many instances at once, each with its own session and threads; measured ``rows_per_s`` of all together."""

    instances: int
    threads: int
    rows_per_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """``rounds`` passes over all cells, which may take ``budget_s`` seconds in all as long as every cell runs once."""

    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    rounds: int = 20
    budget_s: float = 15.0
    seed: int = 0


def measure(
    paths: Mapping[str, Path], data: Dataset, plan: Plan, progress: Progress, clock: Clock = time.perf_counter_ns
) -> dict[Cell, Timing]:
    """Time every candidate in ``paths`` through the backend that will serve it.

    Rounds go over all cells in a new seeded order each, a short block of runs per cell: a neighbour who takes the
    processor for a second slows all candidates alike, and ratios are taken inside a round.
    """
    with ExitStack() as stack:
        sessions = {
            (name, threads): _open(stack, path, threads) for name, path in paths.items() for threads in plan.threads
        }
        runs = {
            Cell(name, batch_size, threads): _runner(session, data, batch_size)
            for (name, threads), session in sessions.items()
            for batch_size in plan.batch_sizes
        }
        return time_rounds(runs, plan, progress, clock)


def time_rounds(
    runs: Mapping[Cell, Callable[[], object]], plan: Plan, progress: Progress, clock: Clock
) -> dict[Cell, Timing]:
    """The rounds themselves, over anything that can be called."""
    cells = sorted(runs)
    single_ns = {cell: _warm_up(runs[cell], clock) for cell in cells}
    block_ns = plan.budget_s * 1e9 / (plan.rounds * len(cells))
    repeats = {cell: int(np.clip(block_ns / max(1, single_ns[cell]), 1, MOST_RUNS)) for cell in cells}
    rng = np.random.default_rng(plan.seed)
    durations: dict[Cell, list[Array]] = {cell: [] for cell in cells}
    stop_ns = clock() + int(MOST_OVERRUN * plan.budget_s * 1e9)
    for done in range(plan.rounds):
        if done >= FEWEST_ROUNDS and clock() > stop_ns:
            break
        for position in rng.permutation(len(cells)):
            cell = cells[position]
            durations[cell].append(_block(runs[cell], repeats[cell], clock))
        progress(done + 1, plan.rounds)
    return {cell: _timing(blocks) for cell, blocks in durations.items()}


def measure_layouts(
    path: Path, data: Dataset, batch_size: int, layouts: Sequence[tuple[int, int]], plan: Plan, progress: Progress
) -> list[Layout]:
    """Rows per second of ``(instances, threads)`` layouts that all work at once, medians of interleaved rounds."""
    block_ns = plan.budget_s * 1e9 / (plan.rounds * len(layouts))
    rates: dict[tuple[int, int], list[float]] = {layout: [] for layout in layouts}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(instances for instances, _ in layouts)))
        teams = {
            layout: [_runner(_open(stack, path, layout[1]), data, batch_size) for _ in range(layout[0])]
            for layout in layouts
        }
        single_ns = {layout: _warm_up(team[0], time.perf_counter_ns) for layout, team in teams.items()}
        rng = np.random.default_rng(plan.seed)
        for done in range(plan.rounds):
            for position in rng.permutation(len(layouts)):
                layout = layouts[position]
                repeats = int(np.clip(block_ns / max(1, single_ns[layout]), 1, MOST_RUNS))
                started = time.perf_counter_ns()
                list(pool.map(lambda run, times=repeats: _repeat(run, times), teams[layout]))
                elapsed_s = (time.perf_counter_ns() - started) / 1e9
                rates[layout].append(layout[0] * repeats * batch_size / elapsed_s)
            progress(done + 1, plan.rounds)
    return [Layout(instances, threads, float(np.median(rates[instances, threads]))) for instances, threads in layouts]


def _open(stack: ExitStack, path: Path, threads: int) -> Session:
    session = loader(backend_of(path))(path, BackendOptions(threads=threads))
    stack.callback(session.close)
    return session


def _runner(session: Session, data: Dataset, batch_size: int) -> Callable[[], object]:
    batch = data.batch(batch_size)
    arrays = [batch[spec.name] for spec in session.spec.inputs]
    return lambda: session.run(arrays)


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()


def _warm_up(run: Callable[[], object], clock: Clock) -> int:
    """Nanoseconds of the fastest of a few first runs, in which the session plans its memory."""
    return int(min(_block(run, WARM_UP_RUNS, clock)))


def _block(run: Callable[[], object], repeats: int, clock: Clock) -> Array:
    ticks = np.empty(repeats + 1, dtype=np.int64)
    ticks[0] = clock()
    for index in range(repeats):
        run()
        ticks[index + 1] = clock()
    return np.diff(ticks)


def _timing(blocks: Sequence[Array]) -> Timing:
    every = np.concatenate(blocks) / 1e3
    p50, p95 = np.percentile(every, [50, 95])
    return Timing(tuple(float(np.median(block)) / 1e3 for block in blocks), float(p50), float(p95), len(every))
