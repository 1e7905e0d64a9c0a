"""The contention of instances is learnt again when it changes, and nothing is learnt from what is not comparable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bench.explain.simulator import MS, SECOND, poisson, simulate
from server.scheduling import contention_estimate
from server.scheduling.contention_estimate import (
    ALONE_NS,
    ALONE_WAIT,
    RECENT_NS,
    TRIAL_NS,
    TRIAL_RUNS,
    AloneRuns,
    ContentionEstimate,
)
from server.scheduling.queue import BatchQueue

SEEDS = [(1, 5 * MS), (8, 12 * MS)]


def alone_runs() -> AloneRuns:
    return {}


def own_cores(_busy: int) -> float:
    return 1.0


def serve(told: float, slower: Callable[[int], float], loads: Sequence[float], seconds: float = 15) -> BatchQueue:
    """A queue of two instances after phases of so many virtual seconds; ``loads``: shares of one instance."""
    queue = BatchQueue(8, SEEDS, 2, contention=told)
    table = BatchQueue(8, SEEDS).cost(None)
    arrivals = [
        replace(one, at_ns=one.at_ns + int(phase * seconds * SECOND))
        for phase, load in enumerate(loads)
        for one in poisson(load * 8 / 12e-3, seconds, seed=3)
    ]
    arrivals.sort(key=lambda one: one.at_ns)
    simulate(arrivals, queue, lambda batch: table.predict_ns(batch.rows), SECOND, slower)
    return queue


@pytest.mark.parametrize("loads", [(0.3,), (0.8,), (2.5, 0.6)], ids=str)
def test_a_contention_that_was_measured_too_high_falls(loads: Sequence[float]) -> None:
    """Also where it is so high that small batches are never started beside others, and after an overload."""
    assert serve(2.0, own_cores, loads).running.contention == 1.0


@pytest.mark.parametrize("loads", [(0.3,), (0.8,), (2.5, 0.6)], ids=str)
def test_a_contention_that_was_measured_too_low_rises(loads: Sequence[float]) -> None:
    assert serve(1.0, float, loads).running.contention == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("told", [1.0, 2.0])
@pytest.mark.parametrize("slower", [own_cores, float])
def test_where_something_always_runs_the_costs_beside_it_are_true(told: float, slower: Callable[[int], float]) -> None:
    """Contention and costs alone are not both known then, but what admission predicts from them is right."""
    queue = serve(told, slower, (3.0,), seconds=4)
    predicted_ns = queue.cost("").predict_ns(8) * queue.running.contention
    assert predicted_ns == pytest.approx(12 * MS * slower(2), rel=0.05)


@pytest.mark.parametrize(("true", "slower"), [(1.0, own_cores), (2.0, float)])
def test_a_true_contention_stays(true: float, slower: Callable[[int], float]) -> None:
    assert serve(true, slower, (0.7,)).running.contention == pytest.approx(true, abs=0.2)


def test_a_neighbour_that_comes_and_goes() -> None:
    """Each phase: alone and side by side, with the contention of the phase."""
    estimate, alone, now_ns = ContentionEstimate(3, 1.0), alone_runs(), 0
    for true, seen in ((1.0, 1.0), (2.4, 2.4), (1.0, 1.0), (3.0, 3.0)):
        for _ in range(60):
            now_ns += SECOND
            estimate.learn(alone, 4, 10 * MS, 1.0, now_ns)
            estimate.learn(alone, 4, int(10 * MS * (1 + (true - 1) / 2)), 2.0, now_ns)
        assert estimate.ratio == pytest.approx(seen, abs=0.02)


@pytest.mark.parametrize(
    ("rows", "busy", "later_ns"),
    [
        pytest.param(4, 1.5, 0, id="beside another for a part of its time"),
        pytest.param(5, 2.0, 0, id="no run of its size alone"),
        pytest.param(4, 2.0, RECENT_NS + 1, id="that run is old"),
    ],
)
def test_what_cannot_be_compared_teaches_nothing(rows: int, busy: float, later_ns: int) -> None:
    estimate, alone = ContentionEstimate(2, 1.3), alone_runs()
    estimate.learn(alone, 4, 10 * MS, 1.0, SECOND)
    estimate.learn(alone, rows, 40 * MS, busy, SECOND + later_ns)
    assert estimate.ratio == 1.3


def test_a_machine_that_is_slower_as_a_whole_is_no_contention() -> None:
    estimate, alone = ContentionEstimate(2, 1.0), alone_runs()
    for at in range(50):
        took_ns = (1 + at) * MS
        estimate.learn(alone, 4, took_ns, 1.0, at * SECOND)
        estimate.learn(alone, 4, int(alone[4][0]), 2.0, at * SECOND)
    assert estimate.ratio == 1.0


def test_trials_are_few_and_only_of_what_can_be_compared() -> None:
    """Where batches always wait for each other, a few an interval start all the same."""
    estimate, alone = ContentionEstimate(2, 2.0), alone_runs()
    estimate.learn(alone, 4, 10 * MS, 1.0, SECOND)
    assert not any(estimate.tries(alone, 3, 10 * MS, at * 10 * MS) for at in range(1_000))
    tried = sum(estimate.tries(alone, 4, 10 * MS, at * 10 * MS) for at in range(1_000))
    assert tried == 4 * (10 * SECOND // TRIAL_NS - 1)
    long_ns = SECOND
    estimate = ContentionEstimate(2, 2.0)
    tried = sum(estimate.tries(alone, 4, long_ns, at * long_ns) for at in range(1_000))
    assert tried <= 4 * 1_000 // TRIAL_RUNS


def test_where_no_run_is_alone_instances_wait_until_one_was_and_not_for_ever() -> None:
    estimate, alone, run_ns = ContentionEstimate(2, 1.0), alone_runs(), 10 * MS
    assert estimate.alone_until_ns(run_ns, SECOND) == 0
    begun_ns = SECOND + ALONE_NS
    assert estimate.alone_until_ns(run_ns, begun_ns) == 0
    assert estimate.alone_until_ns(run_ns, begun_ns + 1) == begun_ns + 1 + ALONE_WAIT * run_ns
    estimate.learn(alone, 4, run_ns, 1.0, begun_ns + 2 * run_ns)
    assert estimate.alone_until_ns(run_ns, begun_ns + 2 * run_ns) == 0
    again_ns = begun_ns + 2 * run_ns + ALONE_NS + 1
    assert estimate.alone_until_ns(run_ns, again_ns) > again_ns
    assert estimate.alone_until_ns(run_ns, again_ns + ALONE_WAIT * run_ns + 1) == 0  # the runs fail, or hang


def test_in_an_overload_without_a_pause_the_contention_is_learnt_from_the_runs_that_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contention_estimate, "ALONE_NS", SECOND // 10)
    monkeypatch.setattr(contention_estimate, "ALONE_RUNS", 10)
    assert serve(1.0, float, (3.0,), seconds=4).running.contention > 1.8
    assert serve(2.0, own_cores, (3.0,), seconds=4).running.contention < 1.2
