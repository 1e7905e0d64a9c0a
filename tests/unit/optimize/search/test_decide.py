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


def test_a_drop_equal_to_the_limit_passes() -> None:
    exact = Accuracy(Interval(0.9, 0.9, 0.9), Interval(0.25, 0.0, 0.25), 500, 3)
    assert decide.not_accurate("accuracy", exact, REFERENCE, allowance("0.25")) is None


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [
        (Interval(1.0, 1 / 1.05, 1.05), "alike"),
        (Interval(1.0, 1 / 1.05, 1.06), "open"),
        (Interval(1.0, 0.94, 1.05), "open"),
        (Interval(0.9, 0.8, 1.0), "open"),
        (Interval(1.1, 1.0, 1.2), "open"),
    ],
)
def test_the_ends_of_the_interval_decide(ratio: Interval, shown: str) -> None:
    assert decide.relation(ratio) == shown


def test_a_gain_of_two_percent_is_enough_and_an_interval_that_reaches_one_is_not() -> None:
    assert decide.not_faster(Interval(1.02, 1.01, 1.03)) is None
    assert "not worth it" in (decide.not_faster(Interval(1.019, 1.01, 1.03)) or "")
    assert "not distinguishable" in (decide.not_faster(Interval(1.03, 1.0, 1.05)) or "")
    assert "not shown to be faster" in (decide.not_faster(Interval(0.9, 0.5, 1.0)) or "")


@pytest.mark.parametrize(("us", "threads"), [(100 / 1.049, 1), (100 / 1.051, 2)])
def test_more_threads_need_five_percent(us: float, threads: int) -> None:
    timings = {Cell("c", 1, 1): timing(100), Cell("c", 1, 2): timing(us)}
    assert decide.best_cell(timings, "c", "latency").threads == threads


@pytest.mark.parametrize(("us", "size"), [(200 / 1.019, 1), (200 / 1.021, 2)])
def test_larger_batches_need_two_percent(us: float, size: int) -> None:
    timings = {Cell("c", 1, 1): timing(100), Cell("c", 2, 1): timing(us)}
    assert decide.best_cell(timings, "c", "throughput").batch_size == size


def test_exact_gains_count() -> None:
    layouts_ = [Layout(1, 1, 100), Layout(1, 2, 105)]
    assert layouts.best(layouts_) == layouts_[1]


def test_a_layout_with_fewer_threads_is_listed_once_per_thread_count() -> None:
    assert layouts.options(3, (1, 2, 3)) == [(1, 1), (1, 2), (1, 3), (3, 1)]
    assert layouts.options(2, (4,)) == [(1, 4)]


def race(**us: float | tuple[float, ...]) -> dict[Cell, Timing]:
    """Timings at batch size 1 with one thread; float32 takes 100 us in every round."""
    rounds = {"float32": (100.0,) * 5} | {
        name: (value,) * 5 if isinstance(value, float) else value for name, value in us.items()
    }
    return {Cell(name, 1, 1): timing(*values) for name, values in rounds.items()}


UNSURE = (30.0, 40.0, 50.0, 90.0, 200.0)
"""Rounds of a candidate that may be faster or slower than one of 50 us."""


def test_only_candidates_that_may_still_change_places_get_more_rounds() -> None:
    settled = race(quick=50.0, slow=80.0)
    assert decide.too_close(settled, "latency", 0) == frozenset()
    close = decide.too_close(race(quick=50.0, slow=80.0, unsure=UNSURE), "latency", 0)
    assert {cell.candidate for cell in close} == {"float32", "quick", "unsure"}


def test_a_candidate_that_may_or_may_not_beat_float32_gets_more_rounds() -> None:
    unsure = (60.0, 80.0, 100.0, 130.0, 160.0)
    close = decide.too_close(race(quick=20.0, unsure=unsure), "latency", 0)
    assert {cell.candidate for cell in close} == {"float32", "quick", "unsure"}


def test_the_first_round_eliminates_below_seven_tenths_of_the_fastest() -> None:
    out = decide.left_behind(race(quick=50.0, near=70.0, far=73.0), "latency", 0)
    assert list(out) == ["far"]
    assert out["far"] == "slower in the first round: 1.37x against 2.00x of quick"


def test_the_first_round_keeps_five_and_those_not_shown_to_be_slower() -> None:
    five = {f"c{at}": 50.0 + at for at in range(5)}
    out = decide.left_behind(race(**five, alike=56.0, slower=60.0, unsure=(50.0, 52.0, 55.0, 58.0, 60.0)), "latency", 0)
    assert list(out) == ["slower"]


def test_the_first_round_goes_on_while_it_is_not_clear_who_is_out() -> None:
    assert decide.first_round_open(race(quick=50.0, near=55.0, far=90.0), "latency", 0) == frozenset()
    unsure = (60.0, 65.0, 70.0, 80.0, 90.0)
    found = decide.first_round_open(race(quick=50.0, unsure=unsure, far=90.0), "latency", 0)
    assert {cell.candidate for cell in found} == {"quick", "unsure", "far"}
    five = {f"c{at}": 50.0 + at / 10 for at in range(5)}
    found = decide.first_round_open(race(**five, sixth=(45.0, 50.0, 55.0, 60.0, 65.0)), "latency", 0)
    assert {cell.candidate for cell in found} == {"c0", "c4", "sixth"}
    assert decide.first_round_open(race(**five, sixth=60.0), "latency", 0) == frozenset()


def test_candidates_are_compared_in_the_rounds_that_both_have() -> None:
    ours = Timing((5.0, 50.0), 5.0, 5.0, 2, {0: 5.0, 7: 50.0})
    theirs = Timing((10.0,), 10.0, 10.0, 1, {0: 10.0})
    cells = (Cell("c", 1, 1), Cell("float32", 1, 1))
    assert decide.speed_up(dict(zip(cells, (ours, theirs), strict=True)), *cells, 0).value == 2.0
