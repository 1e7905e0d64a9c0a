"""Percentiles: exact, refused when there are too few samples, with intervals that know of queues."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.result import statistics
from tests.unit.bench import queues

values = st.lists(st.integers(0, 10**12), min_size=1, max_size=400).map(lambda found: np.array(found, dtype=np.int64))
quantiles = st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0])


@given(latency=values, quantile=quantiles)
def test_a_percentile_is_the_smallest_value_that_covers_its_share(latency: NDArray[np.int64], quantile: float) -> None:
    found = statistics.order_statistic(np.sort(latency), quantile)
    share = Fraction(str(quantile)) * len(latency)
    assert found in latency
    assert (latency <= found).sum() >= share
    assert (latency < found).sum() < share


@pytest.mark.parametrize(("quantile", "need"), [(0.90, 46), (0.95, 93), (0.99, 473), (0.999, 4742)])
def test_floors_are_those_of_one_miss_at_95_percent(quantile: float, need: int) -> None:
    assert statistics.min_samples(quantile) == need


@pytest.mark.parametrize(("quantile", "need"), [(0.90, 64), (0.95, 130), (0.99, 662)])
def test_floors_at_99_percent_are_mlperfs(quantile: float, need: int) -> None:
    assert statistics.min_samples(quantile, 0.99) == need


def test_below_its_floor_a_percentile_is_nothing() -> None:
    found = statistics.percentile(np.arange(472, dtype=np.int64), 0.99)
    assert found.value_ms is None
    assert found.low_ms is None
    assert (found.samples, found.min_samples) == (472, 473)
    assert statistics.percentile(np.arange(473, dtype=np.int64), 0.99).value_ms is not None


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), count=st.sampled_from([100, 700, 5_000]), quantile=st.sampled_from([0.5, 0.9, 0.95]))
def test_an_interval_encloses_its_percentile(seed: int, count: int, quantile: float) -> None:
    latency = np.random.default_rng(seed).lognormal(15, 1, count).astype(np.int64)
    found = statistics.percentile(latency, quantile)
    assert found.value_ms is not None
    assert found.low_ms is not None
    assert found.high_ms is not None
    assert found.low_ms <= found.value_ms <= found.high_ms


def test_sections_cover_the_truth_of_independent_latencies() -> None:
    random = np.random.default_rng(11)
    truth_ns = -math.log(0.05) * 1e6
    intervals = [
        statistics.sectioned_interval(random.exponential(1e6, 20_000).astype(np.int64), 0.95) for _ in range(100)
    ]
    covered = sum(low <= truth_ns <= high for low, high in intervals)
    assert covered >= 88  # 95 expected; 88 is three standard deviations below


def test_a_correlated_run_has_a_wider_interval_than_the_same_values_shuffled() -> None:
    random = np.random.default_rng(5)
    busy = np.repeat(random.exponential(1e6, 100), 200)  # stretches in which everybody waits
    latency = (busy + random.exponential(1e5, busy.size)).astype(np.int64)
    together = np.subtract(*statistics.sectioned_interval(latency, 0.95)[::-1])
    shuffled = np.subtract(*statistics.sectioned_interval(random.permutation(latency), 0.95)[::-1])
    assert together > 3 * shuffled


def test_time_outs_turn_a_percentile_into_a_lower_bound() -> None:
    latency = np.full(1_000, 1_000_000, dtype=np.int64)
    latency[::10] = 50_000_000  # one in ten was given up
    assert not statistics.percentile(latency, 0.5, timeout_ns=50_000_000).at_least
    p95 = statistics.percentile(latency, 0.95, timeout_ns=50_000_000)
    assert p95.at_least
    assert p95.value_ms == 50
    assert p95.high_ms is None


def test_student_is_known_for_any_number_of_repeats() -> None:
    known = {1: 12.7062, 4: 2.7764, 30: 2.0423, 31: 2.0395, 60: 2.0003, 1_000: 1.9623}
    for degrees, value in known.items():
        assert statistics.t_975(degrees) == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("repeats", [1, 5])
@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
def test_intervals_cover_the_truth_of_a_queue_at_80_percent_load(quantile: float, repeats: int) -> None:
    """Neighbours share a queue. One run of 30 s, which is the default, or five of 12 s."""
    seconds = queues.RUN_S if repeats == 1 else 12.5
    assert queues.coverage(quantile, repeats, seconds, trials=60) >= 0.85


def test_the_method_is_that_of_the_repeats_where_there_are_three() -> None:
    latency = np.random.default_rng(1).exponential(1e6, 6_000).astype(np.int64)
    assert statistics.percentile(latency, 0.9, repeat=np.repeat(np.arange(3), 2_000)).method == "repeats"
    assert statistics.percentile(latency, 0.9, repeat=np.repeat(np.arange(2), 3_000)).method == "sections"
