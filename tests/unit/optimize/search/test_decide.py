"""Decisions: each with the sentence that the user reads."""

from __future__ import annotations

import pytest

from optimize.evaluation.bootstrap import Interval
from optimize.evaluation.evaluate import Accuracy, allowance
from optimize.search import decide, layouts
from optimize.search.layouts import Layout
from optimize.search.timing import Cell, Timing


def accuracy(score: float, drop: float, high: float) -> Accuracy:
    return Accuracy(Interval(score, score, score), Interval(drop, 0.0, high), 500, 3)


def timing(*rounds_us: float) -> Timing:
    middle = sorted(rounds_us)[len(rounds_us) // 2]
    return Timing(rounds_us, middle, middle, len(rounds_us))


REFERENCE = accuracy(0.983, 0.0, 0.0)


def test_too_large_a_drop() -> None:
    reason = decide.not_accurate("accuracy", accuracy(0.951, 0.032, 0.05), REFERENCE, allowance("1%"))
    assert reason == "not accurate enough: accuracy 0.951 against 0.983, allowed drop 1%"


def test_a_drop_that_might_be_too_large() -> None:
    reason = decide.not_accurate("accuracy", accuracy(0.979, 0.004, 0.012), REFERENCE, allowance("1%"))
    assert reason is not None
    assert reason.startswith("not shown to be accurate enough: accuracy 0.979 against 0.983")
    assert "500 rows" in reason


def test_a_drop_within_the_allowance() -> None:
    assert decide.not_accurate("accuracy", accuracy(0.981, 0.002, 0.006), REFERENCE, allowance("1%")) is None
    assert decide.not_accurate("accuracy", REFERENCE, REFERENCE, allowance("0%")) is None


@pytest.mark.parametrize(
    ("ratio", "reason"),
    [
        (Interval(0.92, 0.88, 0.97), "not faster: 0.92x (0.88 to 0.97)"),
        (Interval(1.01, 0.98, 1.04), "not distinguishable from float32: 1.01x (0.98 to 1.04)"),
        (
            Interval(1.3, 0.9, 1.8),
            "not shown to be faster: 1.30x (0.90 to 1.80); the rounds differ too much: try a quieter machine",
        ),
        (Interval(1.01, 1.005, 1.04), "not worth it: 1.01x (1.00 to 1.04), less than 1.02x"),
        (Interval(1.5, 1.4, 1.6), None),
    ],
)
def test_speed_has_to_be_shown(ratio: Interval, reason: str | None) -> None:
    assert decide.not_faster(ratio) == reason


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (Interval(0.99, 0.96, 1.03), "alike"),
        (Interval(0.98, 0.97, 0.99), "alike"),
        (Interval(0.9, 0.8, 0.99), "slower"),
        (Interval(0.9, 0.6, 1.2), "open"),
        (Interval(1.2, 1.1, 1.3), "faster"),
    ],
)
def test_only_a_narrow_interval_makes_two_alike(ratio: Interval, shown: str) -> None:
    assert decide.relation(ratio) == shown


def test_latency_looks_at_the_smallest_batch_and_throughput_at_all() -> None:
    timings = {Cell("c", 1, 1): timing(10), Cell("c", 8, 1): timing(20)}
    assert decide.best_cell(timings, "c", "latency") == Cell("c", 1, 1)
    assert decide.best_cell(timings, "c", "throughput") == Cell("c", 8, 1)


def test_threads_have_to_earn_their_place() -> None:
    barely = {Cell("c", 1, 1): timing(10), Cell("c", 1, 2): timing(9.8)}
    clearly = {Cell("c", 1, 1): timing(10), Cell("c", 1, 2): timing(6)}
    assert decide.best_cell(barely, "c", "latency").threads == 1
    assert decide.best_cell(clearly, "c", "latency").threads == 2


def test_ratios_are_taken_inside_a_round() -> None:
    """The machine gets three times slower half-way; the candidate is twice as fast all along."""
    timings = {Cell("ref", 1, 1): timing(10, 10, 30, 30), Cell("c", 1, 1): timing(5, 5, 15, 15)}
    assert decide.speed_up(timings, Cell("c", 1, 1), Cell("ref", 1, 1), 0) == Interval(2.0, 2.0, 2.0)


def test_ratios_count_rows() -> None:
    timings = {Cell("ref", 8, 1): timing(40), Cell("c", 16, 1): timing(40)}
    assert decide.speed_up(timings, Cell("c", 16, 1), Cell("ref", 8, 1), 0).value == 2.0


@pytest.mark.parametrize(("cores", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_thread_counts(cores: int, counts: tuple[int, ...]) -> None:
    assert decide.thread_counts(cores) == counts


def test_layouts_share_out_the_cores() -> None:
    assert layouts.options(4, (1, 2, 4)) == [(1, 1), (1, 2), (1, 4), (2, 2), (4, 1)]


def test_the_smallest_layout_within_five_percent_wins() -> None:
    rows = [Layout(1, 1, 100), Layout(1, 2, 104), Layout(2, 1, 190), Layout(4, 1, 195)]
    assert layouts.best(rows) == rows[2]
    assert layouts.best(rows[:2]) == rows[0]
