"""The budget: divides the time of a command among conversion, search, measurement and writing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from server.backends import Session

from ..evaluation.dataset import Dataset
from ..passes import running
from .benchmark import FEWEST_ROUNDS
from .decide import FINALISTS

LEAST_S = 12.0
"""Seconds that stay for the rest in any case. A command with a very short budget exceeds it."""

CONVERSION_SHARE, CONVERSION_LEAST_S = 0.7, 60.0
"""Share of the budget, and least seconds, after which loading and exporting is stopped."""

MEASURE_SHARE, MEASURE_MOST_S = 0.35, 20.0
"""Share of the time left for measuring, and its seconds when runs are short: more rounds would add nothing."""

CLOSING_SHARE = 0.25
"""Largest share of the time left for writing the artifact."""

ROUNDS_WANTED = 8
FINAL_COST = 0.6
"""Average run time of a finalist, as a share of float32's."""

CLOSING_LOADS, CLOSING_ROWS, CLOSING_S = 16, 160, 0.5
"""Cost of writing, comparing, profiling and packaging the winner, in loads and rows of float32 plus fixed seconds."""

LAYOUT_SHARE = 0.25
"""Time for measuring layouts, as a share of the measurement's and in addition to it."""

LONG_S, TYPICAL_BATCH = 0.05, 8


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that the float32 reference takes to load, and to run one row with one thread."""

    load_s: float
    row_s: float


@dataclass(frozen=True, slots=True)
class Budget:
    """``seconds`` for the whole command from ``began`` on the clock.

    ``ends_s``, on the same clock, is later than that only for a very short budget. ``measurement_s``
    and ``closing_s`` are reserved for the steps after the candidates.
    """

    seconds: float
    began: float = field(default_factory=time.monotonic)
    clock: Callable[[], float] = time.monotonic
    measurement_s: float = 0.0
    closing_s: float = 0.0
    ends_s: float = 0.0

    @property
    def conversion_s(self) -> float:
        """Seconds that loading and exporting may take."""
        return max(CONVERSION_SHARE * self.seconds, CONVERSION_LEAST_S)

    @property
    def remaining_s(self) -> float:
        """Seconds until the artifact must be written."""
        return self.ends_s - self.clock()

    @property
    def measuring_left_s(self) -> float:
        """Seconds until the measurement must end."""
        return self.remaining_s - self.closing_s

    @property
    def left_s(self) -> float:
        """Seconds until the measurement must begin."""
        return self.measuring_left_s - self.measurement_s

    @property
    def layouts_s(self) -> float:
        """Seconds for measuring layouts."""
        return min(max(1.0, LAYOUT_SHARE * self.measurement_s), max(0.0, self.remaining_s / 2))


def cost(reference: Path, data: Dataset) -> Cost:
    """Load the reference and run it on one row, or on a few when that is fast."""
    began = time.perf_counter()
    session = running.open_session(reference)
    try:
        load_s = time.perf_counter() - began
        took_s = _run_s(session, data, 1)
        took_s = _run_s(session, data, 1) if took_s > LONG_S else _run_s(session, data, TYPICAL_BATCH) / TYPICAL_BATCH
    finally:
        session.close()
    return Cost(load_s, took_s)


def _run_s(session: Session, data: Dataset, rows: int) -> float:
    batch = data.batch(rows)
    arrays = [batch[spec.name] for spec in session.spec.inputs]
    began = time.perf_counter()
    session.run(arrays)
    return time.perf_counter() - began


def share(budget: Budget, model: Cost, batch_sizes: Sequence[int], threads: int) -> tuple[Budget, tuple[int, ...]]:
    """Divide the time left, and return the batch sizes that can be measured in it; the smallest always can.

    ``threads``: the number of thread counts. Enough rounds over all cells for an interval must fit.
    """
    now = budget.clock()
    left_s = max(budget.seconds - (now - budget.began), LEAST_S)
    most_s = MEASURE_SHARE * left_s
    sizes = sorted(batch_sizes)
    while len(sizes) > 1 and (FEWEST_ROUNDS + 1) * _round_s(model, sizes, threads) > most_s:
        sizes.pop()
    measurement_s = min(most_s, max(MEASURE_MOST_S, ROUNDS_WANTED * _round_s(model, sizes, threads)))
    closing_s = CLOSING_S + CLOSING_LOADS * model.load_s + CLOSING_ROWS * model.row_s + LAYOUT_SHARE * measurement_s
    shared = replace(
        budget, measurement_s=measurement_s, closing_s=min(closing_s, CLOSING_SHARE * left_s), ends_s=now + left_s
    )
    return shared, tuple(sizes)


def _round_s(model: Cost, sizes: Sequence[int], threads: int) -> float:
    return (1 + FINALISTS) * FINAL_COST * threads * sum(sizes) * model.row_s
