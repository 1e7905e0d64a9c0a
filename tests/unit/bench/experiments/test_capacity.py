"""The capacity under an objective, on servers of which it is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.commands import slo as command
from bench.errors import Unusable
from bench.experiments import capacity, ladder
from bench.result import statistics
from bench.result.objective import Objective
from tests.unit.bench.queues import LIMIT_MS, SERVICE_MS, queue, true_capacity_per_s

TRUTH = true_capacity_per_s(SERVICE_MS, 0.99, LIMIT_MS)


@pytest.mark.parametrize("seconds", [10.0, 30.0])
def test_the_true_capacity_is_found_within_5_percent_in_9_of_10_seeds(seconds: float) -> None:
    found = [capacity.Search(queue(seed, seconds), 0.99, LIMIT_MS).run(50.0) for seed in range(10)]
    rates = [one.rate_per_s for one in found if one.rate_per_s is not None]
    assert sum(abs(rate / TRUTH - 1) <= 0.05 for rate in rates) >= 9
    covered = [one.low_per_s <= TRUTH <= one.high_per_s for one in found if one.low_per_s and one.high_per_s]
    assert sum(covered) >= (7 if seconds == 10 else 9)


@pytest.mark.parametrize("first", [1.0, 90.0, 5_000.0])
def test_any_first_rate_will_do(first: float) -> None:
    found = capacity.Search(queue(3, 30.0), 0.99, LIMIT_MS).run(first)
    assert found.rate_per_s == pytest.approx(TRUTH, rel=0.06)


def test_a_step_is_found_exactly_as_far_as_it_was_looked_at() -> None:
    found = capacity.Search(lambda rate, _: capacity.Trial(rate, 10 if rate <= 200 else 500), 0.99, 50).run(10)
    assert found.rate_per_s is not None
    assert 200 / capacity.NARROW <= found.rate_per_s <= 200 * capacity.NARROW


def test_what_cannot_be_found_is_said() -> None:
    never = capacity.Search(lambda rate, _: capacity.Trial(rate, 80), 0.99, 50).run(10)
    assert (never.rate_per_s, never.at_least) == (None, False)
    assert "no rate met the objective" in capacity.summary(never, "p99 <= 50 ms")
    always = capacity.Search(lambda rate, _: capacity.Trial(rate, 1), 0.99, 50, max_rate_per_s=400).run(10)
    assert (always.rate_per_s, always.at_least) == (400, True)
    tired = capacity.Search(lambda rate, _: capacity.Trial(rate, 1, generator=rate > 100), 0.99, 50).run(10)
    assert tired.at_least
    assert "load generator" in capacity.summary(tired, "p99 <= 50 ms")


@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_the_fit_rises_keeps_the_mean_and_leaves_what_rises_alone(values: list[float]) -> None:
    given_values, weights = np.array(values), np.ones(len(values))
    curve = capacity.isotonic(given_values, weights)
    assert (np.diff(curve) >= -1e-9).all()
    assert curve.mean() == pytest.approx(given_values.mean(), abs=1e-6)
    assert capacity.isotonic(np.sort(given_values), weights) == pytest.approx(np.sort(given_values))


def rung(value_ms: float | None, *, answered: float = 100.0, failed: float = 0.0) -> ladder.Rung:
    found = statistics.Percentile(0.99, value_ms, None, None, None, False, 500, 473)
    return ladder.Rung(100.0, None, 1, 100.0, answered, failed, 500, {"p99": found}, False, ())


def test_a_trial_that_failed_or_fell_behind_has_no_latency() -> None:
    objective = Objective(0.99, 50)
    assert command.latency_ms(rung(20.0), objective) == 20
    assert command.latency_ms(rung(20.0, failed=0.01), objective) == math.inf
    assert command.latency_ms(rung(20.0, answered=80.0), objective) == math.inf
    with pytest.raises(Unusable, match="too few"):
        command.latency_ms(rung(None), objective)
