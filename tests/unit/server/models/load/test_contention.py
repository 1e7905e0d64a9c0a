"""Several instances at the same time: how many runs there were, what they took, what becomes of failures."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import ModelFailed
from server.models.load.contention import LEAST_RUNS, contention, run_at_once
from server.tensors import Array
from tests.fakes import FakeClock

ROW = [np.zeros((1, 4), np.float32)]


def test_an_instance_runs_for_as_long_as_it_is_told_and_a_few_times_at_least() -> None:
    clock = FakeClock()

    def run(_: Sequence[Array]) -> None:
        clock.now_ns += 100

    assert run_at_once(run, ROW, 1, most_ns=1_000, clock=clock) == 100
    assert clock.now_ns == 1_000
    run_at_once(run, ROW, 1, most_ns=0, clock=clock)
    assert clock.now_ns == 1_000 + LEAST_RUNS * 100


@given(st.lists(st.integers(0, 10_000), min_size=4, max_size=4), st.permutations(range(9)))
def test_a_minority_of_slow_runs_changes_nothing(noise: list[int], order: list[int]) -> None:
    clock = FakeClock()
    added = iter([[*noise, 0, 0, 0, 0, 0][place] for place in order])

    def run(_: Sequence[Array]) -> None:
        clock.now_ns += 100 + next(added, 0)

    assert run_at_once(run, ROW, 1, most_ns=900 + sum(noise), clock=clock) == 100


def test_instances_really_run_at_the_same_time() -> None:
    together = threading.Barrier(3)

    def run(_: Sequence[Array]) -> None:
        together.wait(10)

    run_at_once(run, ROW, 3, most_ns=0)


def test_what_a_model_raises_reaches_whoever_asked() -> None:
    def run(_: Sequence[Array]) -> None:
        raise ModelFailed("no")

    with pytest.raises(ModelFailed):
        run_at_once(run, ROW, 2)
    assert contention(run, ROW, 2) == 1.0


def test_contention_is_between_none_and_the_number_of_instances() -> None:
    taking_turns = threading.Lock()

    def run(_: Sequence[Array]) -> None:
        with taking_turns:
            sum(range(20_000))

    assert 1.0 <= contention(run, ROW, 3) <= 3.0
