"""Measurement with a clock of our own: interleaved, budgeted, and every run counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optimize.dataset import Dataset
from optimize.measure import FEWEST_ROUNDS, WARM_UP_RUNS, Cell, Plan, measure, measure_layouts, time_rounds

FAST, SLOW = Cell("fast", 1, 1), Cell("slow", 1, 1)


class Bench:
    """A clock that only runs advance, and a log of who ran."""

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
    bench = Bench()
    runs = {FAST: bench.run(FAST, lambda: 10_000), SLOW: bench.run(SLOW, lambda: 25_000)}
    timings = time_rounds(runs, Plan((1,), (1,), rounds=4, budget_s=0.001), lambda *_: None, bench.clock)
    assert timings[FAST].p50_us == timings[FAST].p95_us == 10.0
    assert timings[SLOW].rounds_us == (25.0,) * 4


def test_every_round_visits_every_cell_in_a_new_order() -> None:
    bench = Bench()
    cells = [Cell(name, 1, 1) for name in "abcd"]
    runs = {cell: bench.run(cell, lambda: 10_000_000) for cell in cells}
    time_rounds(runs, Plan((1,), (1,), rounds=6, budget_s=0.001), lambda *_: None, bench.clock)
    visits = bench.log[WARM_UP_RUNS * len(cells) :]
    rounds = [visits[start : start + 4] for start in range(0, len(visits), 4)]
    assert len(rounds) == FEWEST_ROUNDS, "an interval needs so many, whatever the budget"
    assert all(sorted(each) == cells for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1


def test_the_budget_is_shared_out() -> None:
    bench = Bench()
    runs = {FAST: bench.run(FAST, lambda: 1_000_000), SLOW: bench.run(SLOW, lambda: 5_000_000)}
    plan = Plan((1,), (1,), rounds=10, budget_s=1.0)
    timings = time_rounds(runs, plan, lambda *_: None, bench.clock)
    assert timings[FAST].runs == 500
    assert timings[SLOW].runs == 100


def test_a_disturbed_round_shows_in_the_tail_and_not_in_the_median() -> None:
    bench = Bench()
    calls = iter([10_000] * 12 + [9_000_000] + [10_000] * 100)
    timings = time_rounds(
        {FAST: bench.run(FAST, lambda: next(calls))},
        Plan((1,), (1,), rounds=10, budget_s=0.0001),
        lambda *_: None,
        bench.clock,
    )
    assert timings[FAST].p50_us == 10.0
    assert max(timings[FAST].rounds_us) > 1000


def test_progress_hears_of_every_round() -> None:
    heard: list[tuple[int, int]] = []
    bench = Bench()
    plan = Plan((1,), (1,), rounds=3, budget_s=0.001)
    time_rounds({FAST: bench.run(FAST, lambda: 1000)}, plan, lambda *at: heard.append(at), bench.clock)
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_real_sessions_are_timed_in_every_cell(graph_file: Path, rows: Dataset) -> None:
    plan = Plan((1, 4), (1, 2), rounds=2, budget_s=0.01)
    timings = measure({"float32": graph_file}, rows, plan, lambda *_: None)
    assert set(timings) == {Cell("float32", size, threads) for size in (1, 4) for threads in (1, 2)}
    assert all(timing.p50_us > 0 and len(timing.rounds_us) == 2 for timing in timings.values())


def test_layouts_run_all_their_instances(graph_file: Path, rows: Dataset) -> None:
    plan = Plan((), (), rounds=2, budget_s=0.01)
    layouts = measure_layouts(graph_file, rows, 4, [(1, 1), (2, 1)], plan, lambda *_: None)
    assert [(row.instances, row.threads) for row in layouts] == [(1, 1), (2, 1)]
    assert all(row.rows_per_s > 0 for row in layouts)
