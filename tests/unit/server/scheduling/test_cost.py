"""The cost table: predictions, the choice of a batch size, and learning from measurements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.scheduling.cost import (
    FORGETTING,
    MOST_SPREAD,
    NOISE,
    OUTLIER,
    RELIEF,
    RENEWAL_NS,
    STALE,
    UNMEASURED_NS,
    UNMEASURED_ROW_NS,
    WORTH_IT,
    CostTable,
    _interpolated,
)

MAX = 24
MS = 1_000_000
nanoseconds = st.integers(10_000, 10**9)
seeds = st.dictionaries(st.integers(1, MAX), nanoseconds, min_size=1, max_size=8)
runs = st.lists(st.tuples(st.integers(1, MAX), nanoseconds), max_size=12)


def table(measured: dict[int, int], max_batch_size: int = MAX) -> CostTable:
    return CostTable(max_batch_size, [(size, float(ns)) for size, ns in measured.items()])


def learnt(measured: dict[int, int], recorded: list[tuple[int, int]]) -> CostTable:
    cost = table(measured)
    for rows, duration_ns in recorded:
        cost.record(rows, duration_ns)
    return cost


class Counting(CostTable):
    """Counts how often predictions are computed anew."""

    builds = 0

    def _rebuild(self) -> None:
        self.builds += 1
        super()._rebuild()


def every_prediction(cost: CostTable) -> list[float]:
    """Of all batch sizes from 1 on, from the measurements and without a shortcut."""
    measured = cost._predictions.measured
    rows = range(1, cost.max_batch_size + 1)
    predicted = [_interpolated(measured, sorted(measured), cost._run_size(size)) for size in rows]
    return list(itertools.accumulate(reversed(predicted), min))[::-1]


def every_efficient_size(predicted: list[float]) -> list[int]:
    efficient, best_ns, choice = [0], predicted[0], 1
    for size, ns in enumerate(predicted, start=1):
        best_ns = min(best_ns, ns / size)
        while WORTH_IT * predicted[choice - 1] / choice > best_ns:
            choice += 1
        efficient.append(choice)
    return efficient


@given(seeds, runs, st.lists(st.integers(1, MAX), max_size=4))
def test_what_is_asked_for_is_as_in_a_table_of_all_sizes(
    measured: dict[int, int], recorded: list[tuple[int, int]], closed: list[int]
) -> None:
    cost = CostTable(MAX, [(size, float(ns)) for size, ns in measured.items()], closed)
    for rows, duration_ns in recorded:
        cost.record(rows, duration_ns)
    told = [cost._predictions.ns(rows) for rows in range(1, MAX + 1)]
    assert told == pytest.approx(every_prediction(cost), rel=1e-12)
    assert [cost.efficient_rows(waiting) for waiting in range(MAX + 1)] == every_efficient_size(told)
    assert cost._predictions.row_ns == pytest.approx(min(ns / rows for rows, ns in enumerate(told, start=1)))


def test_a_table_for_huge_batches_is_renewed_at_the_cost_of_its_measurements() -> None:
    """A table of 131,072 predictions took 0.2 s for every 10 ms of runs, on the event loop."""
    cost = CostTable(131_072, [(1, MS), (64, 2 * MS), (131_072, 900 * MS)])
    for rows in (1, 64, 100, 50_000):
        cost.record(rows, RENEWAL_NS)
        assert cost.efficient_rows(120_000) >= 1
    assert len(cost._predictions.known_ns) < 100
    assert len(cost._predictions._ends) <= 8


@given(seeds, runs, st.integers(1, 5 * MAX))
def test_predictions_are_positive_and_never_fall_with_size(
    measured: dict[int, int], recorded: list[tuple[int, int]], rows: int
) -> None:
    cost = learnt(measured, recorded)
    assert cost.predict_ns(0) == 0
    assert 0 < cost.predict_ns(rows) <= cost.predict_ns(rows + 1)


@given(seeds)
def test_predictions_are_linear_between_measurements_and_proportional_beyond_them(measured: dict[int, int]) -> None:
    rising = dict(zip(sorted(measured), sorted(measured.values()), strict=True))
    cost = table(rising)
    sizes = sorted(rising)
    for size in sizes:
        assert cost.predict_ns(size) == pytest.approx(rising[size], abs=1)
    for low, high in itertools.pairwise(sizes):
        for rows in range(low, high + 1):
            line = rising[low] + (rising[high] - rising[low]) * (rows - low) / (high - low)
            assert cost.predict_ns(rows) == pytest.approx(line, abs=1)
    for rows in range(1, sizes[0]):
        assert cost.predict_ns(rows) == pytest.approx(rising[sizes[0]], abs=1)
    for rows in range(sizes[-1], MAX + 1):
        assert cost.predict_ns(rows) == pytest.approx(rising[sizes[-1]] * rows / sizes[-1], abs=1)


@given(seeds, st.integers(0, 4), st.integers(0, MAX - 1))
def test_more_rows_than_a_run_takes_are_predicted_as_several_runs(
    measured: dict[int, int], full: int, rest: int
) -> None:
    cost = table(measured)
    runs_ns = full * cost.predict_ns(MAX) + cost.predict_ns(rest)
    assert cost.predict_ns(full * MAX + rest) == pytest.approx(runs_ns, abs=full + 1)


@given(seeds, runs, st.integers(1, 3 * MAX))
def test_the_size_to_run_is_the_smallest_whose_throughput_is_the_best_within_3_percent(
    measured: dict[int, int], recorded: list[tuple[int, int]], waiting: int
) -> None:
    cost = learnt(measured, recorded)
    row_ns = {size: cost.predict_ns(size) / size for size in range(1, min(waiting, MAX) + 1)}
    chosen = cost.efficient_rows(waiting)
    assert 1 <= chosen <= min(waiting, MAX)
    slack = 1 + 3e-4  # predictions are told in whole nanoseconds, the smallest here is 10,000
    assert WORTH_IT * row_ns[chosen] <= min(row_ns.values()) * slack
    assert all(WORTH_IT * row_ns[size] * slack > min(row_ns.values()) for size in range(1, chosen))


def test_the_smallest_good_size_is_found_also_where_throughput_creeps_up() -> None:
    per_row = {1: 10_000, 2: 9_800, 3: 9_650}
    cost = table({size: size * ns for size, ns in per_row.items()}, max_batch_size=3)
    assert [cost.efficient_rows(waiting) for waiting in (1, 2, 3)] == [1, 1, 2]


def test_nothing_waits_nothing_runs() -> None:
    assert table({1: 100}).efficient_rows(0) == 0


def test_a_model_whose_cost_does_not_depend_on_size_runs_all_that_waits() -> None:
    cost = table({1: 1000, MAX: 1000})
    assert [cost.efficient_rows(waiting) for waiting in (1, 7, MAX, MAX + 5)] == [1, 7, MAX, MAX]


def test_a_model_that_gains_nothing_from_batches_runs_rows_alone() -> None:
    assert table({1: 1000, MAX: MAX * 1000}).efficient_rows(MAX) == 1


def test_a_step_is_kept_as_measured() -> None:
    cost = table({1: 1000, 8: 1000, 9: 2000, 16: 2000}, max_batch_size=16)
    assert [cost.predict_ns(rows) for rows in (8, 9)] == [1000, 2000]
    assert [cost.efficient_rows(waiting) for waiting in (8, 9, 15, 16)] == [8, 8, 8, 8]


@given(seeds, runs)
def test_the_cost_of_a_row_is_the_least_over_all_sizes(
    measured: dict[int, int], recorded: list[tuple[int, int]]
) -> None:
    cost = learnt(measured, recorded)
    least = min(cost.predict_ns(size) / size for size in range(1, MAX + 1))
    assert cost.row_ns == pytest.approx(least, abs=1)


@given(seeds, st.integers(1, MAX), nanoseconds)
def test_one_run_moves_the_memory_part_of_the_way_faster_down_than_up_and_an_outlier_no_further_than_its_clip(
    measured: dict[int, int], rows: int, duration_ns: int
) -> None:
    cost = table(measured)
    before = dict(cost.points()).get(rows, cost.predict_ns(rows))
    cost.record(rows, duration_ns)
    after = dict(cost.points())[rows]
    target = min(duration_ns, OUTLIER * before)
    weight = FORGETTING if duration_ns > before else RELIEF
    assert after == pytest.approx(before + weight * (target - before), rel=1e-3, abs=3)
    assert after <= before * (1 + FORGETTING * (OUTLIER - 1)) + 3


@given(seeds, st.integers(1, MAX), st.integers(MS, 1000 * MS))
def test_repeated_runs_are_learnt(measured: dict[int, int], rows: int, duration_ns: int) -> None:
    cost = table(measured)
    for _ in range(400):
        cost.record(rows, duration_ns)
    assert dict(cost.points())[rows] == pytest.approx(duration_ns, rel=0.02, abs=2)
    assert cost.predict_ns(rows) >= duration_ns * (1 - 2 * STALE)


def test_predictions_follow_once_a_measurement_has_moved_enough() -> None:
    cost = table({1: 20 * MS, 4: 80 * MS}, max_batch_size=4)
    cost.record(1, 28 * MS)
    assert cost.predict_ns(1) == 20 * MS
    cost.record(1, 28 * MS)
    assert cost.predict_ns(1) == 21.52 * MS


def test_predictions_of_a_tiny_model_are_computed_anew_only_after_so_much_time_in_runs() -> None:
    cost = Counting(2, [(1, 1000.0)])
    for _ in range(RENEWAL_NS // 2000 - 1):
        cost.record(1, 2000)
    assert (cost.builds, cost.predict_ns(1)) == (1, 1000)
    cost.record(1, 2000)
    assert (cost.builds, cost.predict_ns(1)) == (2, 1999)  # ever nearer, never there


def test_runs_that_take_what_they_took_compute_nothing_anew() -> None:
    cost = Counting(4, [(1, 10.0 * MS), (2, 20.0 * MS), (4, 30.0 * MS)])
    for rows, took_ms in ((1, 10), (2, 20), (4, 30)) * 5:
        cost.record(rows, took_ms * MS)
    assert cost.builds == 1


def test_sizes_that_contradict_each_other_renew_predictions_within_the_budget() -> None:
    """A larger size that is really faster than a smaller one: the two pull at each other for ever."""
    cost = Counting(4, [(1, 1000.0), (2, 3000.0), (4, 2000.0)])
    runs = ((1, 1000), (2, 3000), (4, 2000)) * 10_000
    for rows, took_ns in runs:
        cost.record(rows, took_ns)
    assert cost.builds <= 1 + sum(took_ns for _, took_ns in runs) // RENEWAL_NS
    assert cost.predict_ns(1) == pytest.approx(1000, abs=1)
    assert 2000 <= cost.predict_ns(4) <= 3000


def test_a_size_that_was_never_measured_is_learnt_from_its_prediction_on() -> None:
    cost = table({1: 10 * MS, 3: 30 * MS}, max_batch_size=3)
    cost.record(2, 999 * MS)
    assert dict(cost.points()) == {1: 13 * MS, 2: 26 * MS, 3: 39 * MS}
    assert cost.predict_ns(2) == 26 * MS


def test_points_are_told_by_size() -> None:
    assert table({8: 80, 1: 10, 4: 40}).points() == [(1, 10), (4, 40), (8, 80)]


def test_seeds_above_the_largest_batch_size_are_passed_over() -> None:
    assert table({1: 10, 8: 80}, max_batch_size=4).points() == [(1, 10)]


@pytest.mark.parametrize("measured", [{}, {8: 80}])
def test_without_a_measurement_runs_are_tried_and_no_long_queue_is_admitted(measured: dict[int, int]) -> None:
    guessed = table(measured, max_batch_size=4)
    assert (guessed.predict_ns(1), guessed.predict_ns(4)) == (UNMEASURED_NS, UNMEASURED_NS)
    assert guessed.row_ns == UNMEASURED_ROW_NS


@pytest.mark.parametrize("first_ns", [10_000, 400_000_000])
def test_the_first_run_is_believed_as_it_is_when_nothing_was_measured_before(first_ns: int) -> None:
    learnt = table({}, max_batch_size=4)
    learnt.record(1, first_ns)
    assert (learnt.predict_ns(1), learnt.predict_ns(4), learnt.row_ns) == (first_ns, first_ns, first_ns / 4)


def test_a_run_that_was_slow_by_chance_does_not_make_its_size_or_larger_ones_unattractive_for_good() -> None:
    cost = table({1: 2 * MS, 4: 6 * MS, 8: 11 * MS}, max_batch_size=8)
    for _ in range(5):
        cost.record(3, 40 * MS)
    assert cost.predict_ns(3) <= cost.predict_ns(4) <= cost.predict_ns(8)
    for _ in range(10):
        cost.record(8, 11 * MS)
    assert cost.predict_ns(3) <= cost.predict_ns(8) == pytest.approx(11 * MS, rel=0.1)


def test_a_small_size_that_really_takes_longer_raises_the_larger_ones() -> None:
    cost = table({1: 1 * MS, 2: 1 * MS}, max_batch_size=2)
    for _ in range(100):
        cost.record(1, 50 * MS)
    assert cost.predict_ns(2) >= cost.predict_ns(1) >= 45 * MS


@given(seeds, st.integers(1, MAX), st.lists(nanoseconds, min_size=1, max_size=60))
def test_what_the_runs_of_one_size_take_does_not_change_which_size_is_the_best(
    measured: dict[int, int], rows: int, durations_ns: list[int]
) -> None:
    known = measured | {rows: table(measured).predict_ns(rows)}
    cost = learnt(known, [(rows, ns) for ns in durations_ns])
    cost._rebuild()
    before = table(known)
    waiting = range(MAX + 1)
    assert list(map(cost.efficient_rows, waiting)) == list(map(before.efficient_rows, waiting))


def test_a_size_that_has_not_run_changes_as_its_neighbour_that_has() -> None:
    cost = table({1: 20_000, 2: 21_000, 4: 24_000}, max_batch_size=4)
    for _ in range(1000):
        cost.record(4, 48_000)
    assert dict(cost.points()) == pytest.approx({1: 40_000, 2: 42_000, 4: 48_000}, rel=0.05)


def test_a_table_whose_runs_all_take_the_same_needs_no_margin() -> None:
    costs = CostTable(8, [(1, 1e6), (8, 4e6)])
    for _ in range(200):
        costs.record(8, 4_000_000)
    assert costs.spread == 1.0


def test_the_margin_holds_for_nearly_every_run_of_a_machine_that_scatters() -> None:
    random = np.random.default_rng(0)
    costs = CostTable(1, [(1, 1e6)])
    held = []
    for index in range(6_000):
        took_ns = int(1e6 * random.uniform(0.9, 1.5))
        if index > 2_000:
            held.append(took_ns <= costs.predict_ns(1) * (costs.spread + NOISE))
        costs.record(1, took_ns)
    assert 0.9 < np.mean(held) < 0.99


def test_the_margin_goes_when_the_machine_is_quiet_again_and_is_bounded() -> None:
    costs = CostTable(1, [(1, 1e6)])
    for index in range(100):
        costs.record(1, 50_000_000 if index % 2 else 1_000_000)
    assert 1.0 < costs.spread <= MOST_SPREAD
    for _ in range(400):
        costs.record(1, costs.predict_ns(1))
    assert costs.spread == 1.0


def test_batches_between_closed_sizes_cost_as_much_as_the_next_one() -> None:
    table = CostTable(32, [(1, 100.0), (8, 200.0), (32, 800.0)], closed=(1, 8, 32))
    assert [table.predict_ns(rows) for rows in (1, 2, 8, 9, 31, 32)] == [100, 200, 200, 800, 800, 800]
    assert table.efficient_rows(9) == 8, "nine rows would run as 32"
    for _ in range(200):
        table.record(9, 40_000_000)
    assert dict(table.points()).keys() == {1, 8, 32}
    assert table.predict_ns(10) == table.predict_ns(32) > 800
