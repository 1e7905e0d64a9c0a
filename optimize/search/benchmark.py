"""The benchmark: times every candidate at every batch size and thread count, in interleaved rounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from server.backends import Session
from server.tensors import Array

from ..evaluation.dataset import Dataset
from ..passes import running
from .candidates import FLOAT32
from .timing import Cell, Timing, Timings

Clock = Callable[[], int]
"""Nanoseconds from some fixed moment."""

Progress = Callable[[int, int], None]
"""Called with (rounds done, rounds in all)."""

Focus = Callable[[Timings], frozenset[Cell]]
"""Returns the cells that more rounds could still tell apart; an empty set ends the measurement."""

WARM_UP_RUNS, LONG_NS = 3, 5e7
MOST_RUNS, MOST_BLOCK_NS = 200, 1e8
"""Limits of one block: enough runs for a median, short enough that the next cell sees the same machine."""

FEWEST_ROUNDS = 5
"""Rounds that always run, even over budget: fewer give no useful interval."""

LEAST_ROUNDS = 2
"""Rounds that always run, even over the time limit. The verdicts then say that nothing was settled."""

FIRST_SHARE = 0.6
"""Share of the budget for the rounds over all cells; the rest goes to the cells that are still close."""

MOST_MORE = 60
"""Most further rounds over close cells: beyond this, the machine's noise decides."""

PACE_SHARE = 0.25
"""One sample of the machine's pace takes this share of a cell's block."""


@dataclass(frozen=True, slots=True)
class MeasurementConfig:
    """``rounds`` passes over all cells, then more over the close ones, within ``budget_s`` seconds.

    ``FEWEST_ROUNDS`` run even over the budget; after ``limit_s`` seconds the measurement ends with the rounds it has.
    """

    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    rounds: int = 20
    budget_s: float = 15.0
    seed: int = 0
    limit_s: float = math.inf


def measure(
    paths: Mapping[str, Path],
    data: Dataset,
    config: MeasurementConfig,
    progress: Progress,
    focus: Focus | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[Cell, Timing]:
    """Time every candidate in ``paths`` (name to file) through the backend that will serve it.

    Each round visits all cells in a new seeded order, with a short block of runs per cell. One cell of float32 runs
    between the blocks; each block is divided by the pace of that cell, so that other load on the machine cancels.
    ``focus`` names the cells that are still close after the rounds; these go on while the budget lasts.
    """
    with ExitStack() as stack:
        sessions = {
            (name, threads): open_session(stack, path, threads)
            for name, path in paths.items()
            for threads in config.threads
        }
        runs = {
            Cell(name, batch_size, threads): runner(session, data, batch_size)
            for (name, threads), session in sessions.items()
            for batch_size in config.batch_sizes
        }
        return time_rounds(runs, config, progress, focus, clock)


def time_rounds(
    runs: Mapping[Cell, Callable[[], object]],
    config: MeasurementConfig,
    progress: Progress,
    focus: Focus | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[Cell, Timing]:
    """Run the rounds of :func:`measure` over any callables."""
    began_ns = clock()
    cells = sorted(runs)
    single_ns = {cell: warm_up(runs[cell], clock) for cell in cells}
    share = FIRST_SHARE if focus else 1.0
    block_ns = share * config.budget_s * 1e9 / (config.rounds * len(cells) * (1 + 2 * PACE_SHARE))
    race = Race(runs, single_ns, min(block_ns, MOST_BLOCK_NS), clock, np.random.default_rng(config.seed))
    first_ns, end_ns, limit_ns = (
        began_ns + 1e9 * seconds for seconds in (share * config.budget_s, config.budget_s, config.limit_s)
    )
    for done in range(config.rounds):
        # The next round takes about as long as the last one.
        if (done >= LEAST_ROUNDS and clock() + race.round_ns > limit_ns) or (
            done >= FEWEST_ROUNDS and clock() > first_ns
        ):
            break
        race.round(cells)
        progress(done + 1, config.rounds)
    for _ in range(MOST_MORE if focus else 0):
        close = sorted(focus(race.timings())) if focus else []
        if not close or clock() + race.round_ns > min(end_ns, limit_ns):
            break
        race.round(close)
    return race.timings()


class Race:
    """The blocks of all rounds so far, and the machine's pace meanwhile.

    The pace is the run time of one cell, float32's smallest, sampled between the blocks of the others and interpolated
    on a logarithmic scale (the control of a randomized block design).
    """

    def __init__(
        self,
        runs: Mapping[Cell, Callable[[], object]],
        single_ns: Mapping[Cell, int],
        block_ns: float,
        clock: Clock,
        rng: np.random.Generator,
    ) -> None:
        self.round_ns = 0.0
        self._runs, self._clock, self._rng = runs, clock, rng
        self._repeats = {cell: int(np.clip(block_ns / max(1, ns), 1, MOST_RUNS)) for cell, ns in single_ns.items()}
        self._anchor = min(runs, key=lambda cell: (cell.candidate != FLOAT32, cell.batch_size, cell.threads))
        anchor_ns = max(1, single_ns[self._anchor])
        self._anchor_repeats = int(np.clip(PACE_SHARE * block_ns / anchor_ns, 1, MOST_RUNS))
        self._paces: list[tuple[float, float]] = []
        self._sample_ns, self._sampled_ns = 0, -math.inf
        self._blocks: dict[Cell, list[tuple[int, float, Array]]] = {cell: [] for cell in runs}
        self._rounds = 0

    def round(self, cells: Sequence[Cell]) -> None:
        """Run one block of each of ``cells``, in a new order."""
        began_ns = self._clock()
        for position in self._rng.permutation(len(cells)):
            # Samples take at most half of the time: a long block has one before and one after, short ones share them.
            if self._clock() - self._sampled_ns >= self._sample_ns:
                self._sample_pace()
            cell = cells[position]
            start_ns = self._clock()
            block = _block(self._runs[cell], self._repeats[cell], self._clock)
            self._blocks[cell].append((self._rounds, (start_ns + self._clock()) / 2, block))
        self._sample_pace()
        self._rounds += 1
        self.round_ns = self._clock() - began_ns

    def timings(self) -> dict[Cell, Timing]:
        """The timing of every cell over all rounds so far."""
        times, paces = np.array(self._paces).T
        usual = float(np.median(paces))
        return {
            cell: _timing(blocks, [math.exp(np.interp(middle, times, paces) - usual) for _, middle, _ in blocks])
            for cell, blocks in self._blocks.items()
        }

    def _sample_pace(self) -> None:
        start_ns = self._clock()
        block = _block(self._runs[self._anchor], self._anchor_repeats, self._clock)
        self._sampled_ns = self._clock()
        self._sample_ns = self._sampled_ns - start_ns
        self._paces.append(((start_ns + self._sampled_ns) / 2, math.log(max(1.0, float(np.median(block))))))


def open_session(stack: ExitStack, path: Path, threads: int) -> Session:
    """Load a model file; ``stack`` closes the session."""
    session = running.open_session(path, threads)
    stack.callback(session.close)
    return session


def runner(session: Session, data: Dataset, batch_size: int) -> Callable[[], object]:
    """A callable that runs the session on one batch of real rows."""
    batch = data.batch(batch_size)
    arrays = [batch[spec.name] for spec in session.spec.inputs]
    return lambda: session.run(arrays)


def warm_up(run: Callable[[], object], clock: Clock) -> int:
    """Nanoseconds of the fastest of the first runs, in which the session plans its memory; one is enough if long."""
    runs = [int(_block(run, 1, clock)[0])]
    while len(runs) < WARM_UP_RUNS and runs[-1] < LONG_NS:
        runs.append(int(_block(run, 1, clock)[0]))
    return min(runs)


def _block(run: Callable[[], object], repeats: int, clock: Clock) -> Array:
    ticks = np.empty(repeats + 1, dtype=np.int64)
    ticks[0] = clock()
    for index in range(repeats):
        run()
        ticks[index + 1] = clock()
    return np.diff(ticks)


def _timing(blocks: Sequence[tuple[int, float, Array]], slowdowns: Sequence[float]) -> Timing:
    every = np.concatenate([block for _, _, block in blocks]) / 1e3
    p50, p95 = np.percentile(every, [50, 95])
    medians = tuple(float(np.median(block)) / 1e3 for _, _, block in blocks)
    steady = {number: us / slow for (number, _, _), us, slow in zip(blocks, medians, slowdowns, strict=True)}
    return Timing(medians, float(p50), float(p95), len(every), steady)
