"""Intervals: seeded, around the estimate, and narrower with more rows."""

from __future__ import annotations

import numpy as np

from optimize.evaluation import bootstrap


def test_the_interval_holds_the_estimate_and_follows_its_seed() -> None:
    values = np.random.default_rng(0).normal(5, 1, 200)
    first, again, other = (bootstrap.mean(values, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first.low < first.value < first.high
    assert first.value == values.mean()


def test_the_width_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(0).normal(0, 1, 400)
    interval = bootstrap.mean(values, 0)
    assert np.isclose(interval.high - interval.low, 2 * 1.96 / np.sqrt(400), rtol=0.15)


def test_rounds_that_agree_leave_no_doubt() -> None:
    assert bootstrap.median(np.full(20, 1.5), 0) == bootstrap.Interval(1.5, 1.5, 1.5)


def test_one_disturbed_round_does_not_move_a_median() -> None:
    values = np.array([1.5] * 19 + [90.0])
    assert bootstrap.median(values, 0).high == 1.5
