"""Measurement: how long every candidate takes at every batch size and thread count, in interleaved rounds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from server.backends import BackendOptions, Session, loader
from server.tensors import Array

from ..evaluation.dataset import Dataset
from ..passes import backend_of
from .candidates import FLOAT32

Clock = Callable[[], int]
"""Nanoseconds from some fixed moment."""

Progress = Callable[[int, int], None]
"""Called with (rounds done, rounds in all)."""

Focus = Callable[["Timings"], frozenset["Cell"]]
"""What still has to be told apart: the cells that more rounds would settle, or none."""

WARM_UP_RUNS, LONG_NS = 3, 5e7
MOST_RUNS, MOST_BLOCK_NS = 200, 1e8
"""Of one cell in one round: enough for a median, short enough that the next cell sees the same machine."""

FEWEST_ROUNDS = 5
"""Rounds of a measurement that does not fit into its budget: below that there is no interval to speak of."""

LEAST_ROUNDS = 2
"""Rounds of one that does not even fit into its limit: too few to settle anything, and the verdicts say so."""

FIRST_SHARE = 0.6
"""Share of the budget for the rounds over all cells; the rest is for those that are close."""

MOST_MORE = 60
"""Further rounds over what is close: what they have not settled by then is settled by the machine's noise."""

PACE_SHARE = 0.25
"""A look at the machine's pace takes this share of a cell's block."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """What is timed: one candidate at one batch size with so many intra-op threads."""

    candidate: str
    batch_size: int
    threads: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of single runs of a cell: the median of every round in order, and percentiles over all runs.

    ``steady_us`` are those medians by the number of their round, at the machine's usual pace: divided by how slow the
    reference was just before and just after. Two cells are compared in the rounds that both have.
    """

    rounds_us: tuple[float, ...]
    p50_us: float
    p95_us: float
    runs: int
    steady_us: Mapping[int, float] = field(default_factory=dict)

    @property
    def by_round(self) -> Mapping[int, float]:
        return self.steady_us or dict(enumerate(self.rounds_us))

    @property
    def usual_us(self) -> float:
        return float(np.median(list(self.by_round.values())))

    def to_json(self) -> dict[str, Any]:
        return {
            "p50_us": round(self.p50_us, 2),
            "p95_us": round(self.p95_us, 2),
            "steady_us": round(self.usual_us, 2),
            "rounds": len(self.rounds_us),
            "runs": self.runs,
        }


Timings = Mapping[Cell, Timing]


@dataclass(frozen=True, slots=True)
class Layout:
    """So many instances at once, each with its own session and threads; measured ``rows_per_s`` of all together."""

    instances: int
    threads: int
    rows_per_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """``rounds`` passes over all cells, then more over what is close, in ``budget_s`` seconds in all as long as there
    are rounds enough for an interval; after ``limit_s`` seconds it ends with those that it has."""

    batch_sizes: tuple[int, ...]
    threads: tuple[int, ...]
    rounds: int = 20
    budget_s: float = 15.0
    seed: int = 0
    limit_s: float = math.inf


def measure(
    paths: Mapping[str, Path],
    data: Dataset,
    plan: Plan,
    progress: Progress,
    focus: Focus | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[Cell, Timing]:
    """Time every candidate in ``paths`` through the backend that will serve it.

    Rounds go over all cells in a new seeded order each, a short block of runs per cell. Between the blocks one and the
    same cell is run again and again, and every block is judged by what that one took beside it: a neighbour who takes
    the processor for a second, or for half of the measurement, slows both alike. ``focus`` names what is still too
    close after the rounds, which goes on alone while the budget lasts.
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
        return time_rounds(runs, plan, progress, focus, clock)


def time_rounds(
    runs: Mapping[Cell, Callable[[], object]],
    plan: Plan,
    progress: Progress,
    focus: Focus | None = None,
    clock: Clock = time.perf_counter_ns,
) -> dict[Cell, Timing]:
    """The rounds themselves, over anything that can be called."""
    began_ns = clock()
    cells = sorted(runs)
    single_ns = {cell: _warm_up(runs[cell], clock) for cell in cells}
    share = FIRST_SHARE if focus else 1.0
    block_ns = share * plan.budget_s * 1e9 / (plan.rounds * len(cells) * (1 + 2 * PACE_SHARE))
    race = Race(runs, single_ns, min(block_ns, MOST_BLOCK_NS), clock, np.random.default_rng(plan.seed))
    first_ns, end_ns, limit_ns = (
        began_ns + 1e9 * seconds for seconds in (share * plan.budget_s, plan.budget_s, plan.limit_s)
    )
    for done in range(plan.rounds):
        # The round to come takes about as long as the one before.
        if (done >= LEAST_ROUNDS and clock() + race.round_ns > limit_ns) or (
            done >= FEWEST_ROUNDS and clock() > first_ns
        ):
            break
        race.round(cells)
        progress(done + 1, plan.rounds)
    for _ in range(MOST_MORE if focus else 0):
        close = sorted(focus(race.timings())) if focus else []
        if not close or clock() + race.round_ns > min(end_ns, limit_ns):
            break
        race.round(close)
    return race.timings()


class Race:
    """Rounds that have been run, and the pace of the machine meanwhile.

    The pace is what one cell takes, the reference's smallest, which is run again between the blocks of the others. It
    is followed on a logarithmic scale from one such look to the next (the control of a randomized block design).
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
        self._looks: list[tuple[float, float]] = []
        self._look_ns, self._looked_ns = 0, -math.inf
        self._blocks: dict[Cell, list[tuple[int, float, Array]]] = {cell: [] for cell in runs}
        self._rounds = 0

    def round(self, cells: Sequence[Cell]) -> None:
        """One block of each of ``cells``, in a new order."""
        began_ns = self._clock()
        for position in self._rng.permutation(len(cells)):
            # Looking takes about as long as what is looked at, at most: long blocks have one before and one after.
            if self._clock() - self._looked_ns >= self._look_ns:
                self._look()
            cell = cells[position]
            start_ns = self._clock()
            block = _block(self._runs[cell], self._repeats[cell], self._clock)
            self._blocks[cell].append((self._rounds, (start_ns + self._clock()) / 2, block))
        self._look()
        self._rounds += 1
        self.round_ns = self._clock() - began_ns

    def timings(self) -> dict[Cell, Timing]:
        """Of every cell, over all rounds so far."""
        times, paces = np.array(self._looks).T
        usual = float(np.median(paces))
        return {
            cell: _timing(blocks, [math.exp(np.interp(middle, times, paces) - usual) for _, middle, _ in blocks])
            for cell, blocks in self._blocks.items()
        }

    def _look(self) -> None:
        start_ns = self._clock()
        block = _block(self._runs[self._anchor], self._anchor_repeats, self._clock)
        self._looked_ns = self._clock()
        self._look_ns = self._looked_ns - start_ns
        self._looks.append(((start_ns + self._looked_ns) / 2, math.log(max(1.0, float(np.median(block))))))


def unevenness(timings: Timings) -> float:
    """How many times as fast the machine was in its good moments as in its bad ones: the middle 90 % of all blocks."""
    slowness = [
        us / steady
        for timing in timings.values()
        for us, steady in zip(timing.rounds_us, timing.by_round.values(), strict=True)
    ]
    low, high = np.percentile(slowness, [5, 95])
    return float(high / low)


def measure_layouts(
    path: Path, data: Dataset, batch_size: int, layouts: Sequence[tuple[int, int]], plan: Plan, progress: Progress
) -> list[Layout]:
    """Rows per second of ``(instances, threads)`` layouts that all work at once, in interleaved rounds.

    Each is taken as a multiple of the first one in the same round. Ends early, like :func:`time_rounds`.
    """
    stop_ns = time.perf_counter_ns() + 1e9 * plan.budget_s
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
            if done >= LEAST_ROUNDS and time.perf_counter_ns() > stop_ns:
                break
            for position in rng.permutation(len(layouts)):
                layout = layouts[position]
                repeats = int(np.clip(block_ns / max(1, single_ns[layout]), 1, MOST_RUNS))
                started = time.perf_counter_ns()
                list(pool.map(lambda run, times=repeats: _repeat(run, times), teams[layout]))
                elapsed_s = (time.perf_counter_ns() - started) / 1e9
                rates[layout].append(layout[0] * repeats * batch_size / elapsed_s)
            progress(done + 1, plan.rounds)
    base = np.array(rates[layouts[0]])
    usual = float(np.median(base))
    return [Layout(*layout, usual * float(np.median(np.array(rates[layout]) / base))) for layout in layouts]


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
    """Nanoseconds of the fastest of a few first runs, in which the session plans its memory; a long one is enough."""
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


def _timing(blocks: Sequence[tuple[int, float, Array]], slowness: Sequence[float]) -> Timing:
    every = np.concatenate([block for _, _, block in blocks]) / 1e3
    p50, p95 = np.percentile(every, [50, 95])
    medians = tuple(float(np.median(block)) / 1e3 for _, _, block in blocks)
    steady = {number: us / slow for (number, _, _), us, slow in zip(blocks, medians, slowness, strict=True)}
    return Timing(medians, float(p50), float(p95), len(every), steady)
