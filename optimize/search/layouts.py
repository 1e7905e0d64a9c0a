"""Layouts: how many instances with how many threads each give the most rows per second together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..evaluation.dataset import Dataset
from .benchmark import LEAST_ROUNDS, MOST_RUNS, MeasurementConfig, Progress, open_session, runner, warm_up

GAIN = 1.05
"""More threads or instances must gain five percent, because they take cores from everything else on the host."""


@dataclass(frozen=True, slots=True)
class Layout:
    """``instances`` sessions with ``threads`` threads each, and the measured rows per second of all together."""

    instances: int
    threads: int
    rows_per_s: float


def options(cores: int, threads: Sequence[int]) -> list[tuple[int, int]]:
    """The (instances, threads) worth measuring: all cores divided by each thread count, and one instance alone."""
    shared = {(max(1, cores // count), count) for count in threads if count <= cores}
    return sorted(shared | {(1, count) for count in threads})


def on_gpu() -> list[tuple[int, int]]:
    """The same for a GPU, whose session copies one batch in while it computes another: a second one gains little."""
    return [(1, 1), (2, 1)]


def best(measured: Sequence[Layout]) -> Layout:
    """The layout with the most rows per second; one with fewer threads is kept unless the gain reaches ``GAIN``."""
    ordered = sorted(measured, key=lambda layout: (layout.instances * layout.threads, layout.instances))
    found = ordered[0]
    for layout in ordered[1:]:
        if layout.rows_per_s >= GAIN * found.rows_per_s:
            found = layout
    return found


def measure(
    path: Path,
    data: Dataset,
    batch_size: int,
    layouts: Sequence[tuple[int, int]],
    config: MeasurementConfig,
    progress: Progress,
) -> list[Layout]:
    """Measure the rows per second of (instances, threads) layouts whose instances all run at once, in rounds.

    Each layout is compared with the first one in the same round. Ends early when ``config.budget_s`` is used up.
    """
    stop_ns = time.perf_counter_ns() + 1e9 * config.budget_s
    block_ns = config.budget_s * 1e9 / (config.rounds * len(layouts))
    rates: dict[tuple[int, int], list[float]] = {layout: [] for layout in layouts}
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(instances for instances, _ in layouts)))
        teams = {
            layout: [runner(open_session(stack, path, layout[1]), data, batch_size) for _ in range(layout[0])]
            for layout in layouts
        }
        single_ns = {layout: warm_up(team[0], time.perf_counter_ns) for layout, team in teams.items()}
        rng = np.random.default_rng(config.seed)
        for done in range(config.rounds):
            if done >= LEAST_ROUNDS and time.perf_counter_ns() > stop_ns:
                break
            for position in rng.permutation(len(layouts)):
                layout = layouts[position]
                repeats = int(np.clip(block_ns / max(1, single_ns[layout]), 1, MOST_RUNS))
                started = time.perf_counter_ns()
                list(pool.map(lambda run, times=repeats: _repeat(run, times), teams[layout]))
                elapsed_s = (time.perf_counter_ns() - started) / 1e9
                rates[layout].append(layout[0] * repeats * batch_size / elapsed_s)
            progress(done + 1, config.rounds)
    first = np.array(rates[layouts[0]])
    usual = float(np.median(first))
    return [Layout(*layout, usual * float(np.median(np.array(rates[layout]) / first))) for layout in layouts]


def _repeat(run: Callable[[], object], times: int) -> None:
    for _ in range(times):
        run()
