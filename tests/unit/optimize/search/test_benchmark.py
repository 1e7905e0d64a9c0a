"""The benchmark with a fake clock: rounds are interleaved and within the budget, and every run is counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from optimize.evaluation.dataset import Dataset
from optimize.search import decide, layouts
from optimize.search.benchmark import (
    FEWEST_ROUNDS,
    WARM_UP_RUNS,
    Focus,
    MeasurementConfig,
    measure,
    time_rounds,
)
from optimize.search.timing import Cell, Timing, unevenness

FAST, SLOW = Cell("fast", 1, 1), Cell("slow", 1, 1)


class FakeMachine:
    """A clock that only runs advance, and a log of the cells that ran."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.log: list[Cell] = []

    def clock(self) -> int:
        return self.now_ns

    def run(self, cell: Cell, cost_ns: Callable[[], int]) -> Callable[[], object]:
        def once() -> None:
            self.log.append(cell)
            self.now_ns += cost_ns()

        return once


def test_costs_are_told_apart_and_rounds_are_kept() -> None:
    machine = FakeMachine()
    runs = {FAST: machine.run(FAST, lambda: 10_000), SLOW: machine.run(SLOW, lambda: 25_000)}
    timings = time_rounds(
        runs, MeasurementConfig((1,), (1,), rounds=4, budget_s=0.001), lambda *_: None, clock=machine.clock
    )
    assert timings[FAST].p50_us == timings[FAST].p95_us == 10.0
    assert timings[SLOW].rounds_us == (25.0,) * 4
    assert timings[SLOW].steady_us == dict.fromkeys(range(4), 25.0)


def test_every_round_visits_every_cell_in_a_new_order() -> None:
    machine = FakeMachine()
    cells = [Cell(name, 1, 1) for name in "abcd"]
    runs = {cell: machine.run(cell, lambda: 10_000_000) for cell in cells}
    time_rounds(runs, MeasurementConfig((1,), (1,), rounds=6, budget_s=0.001), lambda *_: None, clock=machine.clock)
    # The first cell is the one that the pace is taken from; it is looked at between all the others.
    visits = [cell for cell in machine.log[WARM_UP_RUNS * len(cells) :] if cell != cells[0]]
    rounds = [visits[start : start + 3] for start in range(0, len(visits), 3)]
    assert len(rounds) == FEWEST_ROUNDS, "an interval needs so many, whatever the budget"
    assert all(sorted(each) == cells[1:] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_the_budget_is_shared_out() -> None:
    machine = FakeMachine()
    runs = {FAST: machine.run(FAST, lambda: 1_000_000), SLOW: machine.run(SLOW, lambda: 5_000_000)}
    config = MeasurementConfig((1,), (1,), rounds=10, budget_s=1.0)
    timings = time_rounds(runs, config, lambda *_: None, clock=machine.clock)
    assert timings[FAST].runs == 330
    assert timings[SLOW].runs == 60
    assert len(timings[FAST].rounds_us) == 10
    assert 0.7e9 < machine.now_ns < 1.05e9, "with what it takes to follow the pace"


def test_a_disturbed_round_shows_in_the_tail_and_not_in_the_median() -> None:
    machine = FakeMachine()
    calls = iter([10_000] * 12 + [9_000_000] + [10_000] * 100)
    timings = time_rounds(
        {FAST: machine.run(FAST, lambda: next(calls))},
        MeasurementConfig((1,), (1,), rounds=10, budget_s=0.0001),
        lambda *_: None,
        clock=machine.clock,
    )
    assert timings[FAST].p50_us == 10.0
    assert max(timings[FAST].rounds_us) > 1000


def test_progress_hears_of_every_round() -> None:
    heard: list[tuple[int, int]] = []
    machine = FakeMachine()
    config = MeasurementConfig((1,), (1,), rounds=3, budget_s=0.001)
    time_rounds({FAST: machine.run(FAST, lambda: 1000)}, config, lambda *at: heard.append(at), clock=machine.clock)
    assert heard == [(1, 3), (2, 3), (3, 3)]


class Host(FakeMachine):
    """A machine whose pace goes up and down by a factor of two, and on which single runs are now and then disturbed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.phase = float(self.rng.uniform(0, 2 * np.pi))

    def job(self, cell: Cell, usual_us: float) -> Callable[[], object]:
        def cost_ns() -> int:
            slow = 2 ** (0.5 + 0.5 * np.sin(self.phase + self.now_ns / 0.2e9))
            hit = 3.0 if self.rng.random() < 0.05 else 1.0
            return int(1000 * usual_us * slow * hit * self.rng.uniform(0.97, 1.03))

        return self.run(cell, cost_ns)

    def time(
        self, rows: Mapping[str, float], config: MeasurementConfig, focus: Focus | None = None
    ) -> dict[Cell, Timing]:
        runs = {(cell := Cell(name, 1, 1)): self.job(cell, us) for name, us in rows.items()}
        return time_rounds(runs, config, lambda *_: None, focus, self.clock)


TRUTH = {"float32": 20_000.0, "quick": 5_000.0, "twin": 5_050.0, "middling": 7_800.0}


@pytest.mark.parametrize("seed", range(12))
def test_a_pace_that_drifts_by_a_factor_of_two_cancels(seed: int) -> None:
    host = Host(seed)
    timings = host.time(TRUTH, MeasurementConfig((1,), (1,), rounds=12, budget_s=6.0, seed=seed))
    raw = timings[Cell("float32", 1, 1)].rounds_us
    assert max(raw) > 1.5 * min(raw), "the machine really was uneven"
    for name, us in TRUTH.items():
        ratio = decide.speed_up(timings, Cell(name, 1, 1), Cell("float32", 1, 1), 0)
        assert ratio.value == pytest.approx(TRUTH["float32"] / us, rel=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_close_gets_more_rounds_until_it_is_settled_and_what_is_not_gets_none(seed: int) -> None:
    config = MeasurementConfig((1,), (1,), rounds=5, budget_s=60.0, seed=seed)
    timings = Host(seed).time(TRUTH, config, partial(decide.too_close, objective="throughput", seed=0))
    quick, twin, middling = (Cell(name, 1, 1) for name in ("quick", "twin", "middling"))
    assert decide.relation(decide.speed_up(timings, twin, quick, 0)) in ("alike", "slower")
    assert decide.relation(decide.speed_up(timings, middling, quick, 0)) == "slower"
    assert len(timings[middling].rounds_us) <= len(timings[twin].rounds_us)


def test_more_rounds_are_for_the_cells_in_question_and_end_with_the_budget() -> None:
    machine = FakeMachine()
    cells = [Cell(name, 1, 1) for name in ("float32", "a", "b")]
    runs = {cell: machine.run(cell, lambda: 10_000_000) for cell in cells}
    config = MeasurementConfig((1,), (1,), rounds=5, budget_s=3.0)
    timings = time_rounds(runs, config, lambda *_: None, lambda _: frozenset(cells[:2]), machine.clock)
    assert len(timings[cells[2]].rounds_us) == 5
    assert len(timings[cells[0]].rounds_us) == len(timings[cells[1]].rounds_us) > 5
    assert machine.now_ns <= 3.0e9


def test_the_limit_ends_a_measurement_that_has_fewer_rounds_than_an_interval_needs() -> None:
    machine = FakeMachine()
    runs = {
        FAST: machine.run(FAST, lambda: 1_000_000_000),
        SLOW: machine.run(SLOW, lambda: 1_000_000_000),
    }
    config = MeasurementConfig((1,), (1,), rounds=20, budget_s=1.0, limit_s=12.0)
    timings = time_rounds(runs, config, lambda *_: None, clock=machine.clock)
    assert len(timings[SLOW].rounds_us) == 2
    assert machine.now_ns <= 12.0e9


def test_real_sessions_are_timed_in_every_cell(graph_file: Path, rows: Dataset) -> None:
    config = MeasurementConfig((1, 4), (1, 2), rounds=2, budget_s=0.01)
    timings = measure({"float32": graph_file}, rows, config, lambda *_: None)
    assert set(timings) == {Cell("float32", size, threads) for size in (1, 4) for threads in (1, 2)}
    assert all(timing.p50_us > 0 and len(timing.rounds_us) == 2 for timing in timings.values())


def test_layouts_run_all_their_instances(graph_file: Path, rows: Dataset) -> None:
    config = MeasurementConfig((), (), rounds=2, budget_s=0.01)
    found = layouts.measure(graph_file, rows, 4, [(1, 1), (2, 1)], config, lambda *_: None)
    assert [(row.instances, row.threads) for row in found] == [(1, 1), (2, 1)]
    assert all(row.rows_per_s > 0 for row in found)


def test_unevenness_is_how_far_the_pace_went() -> None:
    flat = Timing((10.0, 10.0), 10.0, 10.0, 2, {0: 10.0, 1: 10.0})
    bumpy = Timing((10.0, 20.0), 15.0, 20.0, 2, {0: 10.0, 1: 10.0})
    assert unevenness({FAST: flat}) == 1.0
    assert unevenness({FAST: bumpy}) == pytest.approx(1.9, abs=0.1)
