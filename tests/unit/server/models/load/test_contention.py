"""Several instances at the same time: how many runs there were, what they took, what becomes of failures."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from server.errors import ModelFailed
from server.models.load.contention import LEAST_RUNS, contention, run_at_once
from server.tensors import Array
from tests.fakes import FakeClock

ROW = [np.zeros((1, 4), np.float32)]


def test_an_instance_runs_for_as_long_as_it_is_told_and_a_few_times_at_least() -> None:
    clock = FakeClock()

    def run(_: Sequence[Array]) -> None:
        clock.now_ns += 100

    seen = run_at_once(run, ROW, 1, most_ns=1_000, clock=clock)
    assert (seen.runs, seen.wall_ns, seen.run_ns, seen.runs_per_s) == (10, 1_000, 100, 1e7)
    assert run_at_once(run, ROW, 1, most_ns=0, clock=clock).runs == LEAST_RUNS


def test_instances_really_run_at_the_same_time() -> None:
    together = threading.Barrier(3)

    def run(_: Sequence[Array]) -> None:
        together.wait(10)

    assert run_at_once(run, ROW, 3, most_ns=0).runs == 3 * LEAST_RUNS


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
