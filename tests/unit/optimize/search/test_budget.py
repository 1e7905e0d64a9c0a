"""The budget with a clock of our own: all stages fit into it, and a slow model or machine changes what is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.evaluation.dataset import Dataset
from optimize.search import budget
from optimize.search.benchmark import FEWEST_ROUNDS
from optimize.search.budget import Budget, Cost
from optimize.search.decide import FINALISTS
from tests.fakes import FakeClock

SIZES = (1, 2, 4, 8, 16, 32)


@pytest.mark.parametrize("row_s", [1e-5, 1e-3, 0.1, 2.0])
@pytest.mark.parametrize("converted_s", [1.0, 30.0, 140.0])
def test_candidates_measurement_and_closing_fit_into_what_was_asked_for(row_s: float, converted_s: float) -> None:
    clock = FakeClock()
    asked = Budget(300, 0.0, clock.seconds)
    clock.now_s = converted_s
    shared, sizes = budget.share(asked, Cost(3 * row_s, row_s), SIZES, 2)
    assert shared.ends_s == 300
    assert shared.remaining_s == pytest.approx(shared.left_s + shared.measurement_s + shared.closing_s)
    assert shared.left_s > 0.3 * shared.remaining_s, "most of it is for candidates"
    assert sizes[0] == 1


def test_what_cannot_be_measured_often_enough_is_left_out() -> None:
    asked = Budget(300, 0.0, lambda: 0.0)
    assert budget.share(asked, Cost(0.01, 0.001), SIZES, 2)[1] == SIZES
    shared, sizes = budget.share(asked, Cost(0.3, 0.1), SIZES, 2)
    assert sizes == SIZES[: len(sizes)]
    assert 1 < len(sizes) < len(SIZES)
    assert (FEWEST_ROUNDS + 1) * (FINALISTS + 1) * 0.6 * 2 * sum(sizes) * 0.1 <= 0.35 * 300
    assert shared.measurement_s > 20


def test_short_runs_need_no_more_than_twenty_seconds_of_measuring() -> None:
    shared, _ = budget.share(Budget(300, 0.0, lambda: 0.0), Cost(0.001, 1e-5), SIZES, 1)
    assert shared.measurement_s == 20


@pytest.mark.parametrize(("asked_s", "remaining_s"), [(100, 12), (8, 12)])
def test_a_model_that_took_all_the_time_to_convert_still_has_some_for_candidates(
    asked_s: float, remaining_s: float
) -> None:
    shared, _ = budget.share(Budget(asked_s, 0.0, lambda: 101.0), Cost(0.001, 1e-5), SIZES, 1)
    assert shared.remaining_s == remaining_s
    assert shared.left_s > 0.5 * remaining_s


@pytest.mark.parametrize(("asked_s", "conversion_s"), [(300, 210), (30, 60)])
def test_conversion_gets_most_of_the_budget_and_no_more(asked_s: float, conversion_s: float) -> None:
    assert Budget(asked_s).conversion_s == conversion_s


def test_time_runs_out_in_order() -> None:
    clock = FakeClock()
    shared, _ = budget.share(Budget(100, 0.0, clock.seconds), Cost(0.1, 0.001), (1,), 1)
    clock.now_s = 100 - shared.closing_s - shared.measurement_s
    assert shared.left_s == pytest.approx(0)
    assert shared.measuring_left_s == pytest.approx(shared.measurement_s)
    clock.now_s = 101
    assert shared.remaining_s == -1
    assert shared.layouts_s == 0


def test_the_reference_is_timed_by_itself(graph_file: Path, rows: Dataset) -> None:
    took = budget.cost(graph_file, rows)
    assert took.load_s > 0
    assert took.row_s > 0
