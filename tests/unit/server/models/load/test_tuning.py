"""Tuning at load: which ways are tried within the budget, which one is taken, and that sessions do not pile up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from server.errors import ModelFailed
from server.models.load.tuning import ROWS, Measurement, Tuned, TuningConfig, choose, splits, tune
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

MS = 1_000_000
SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 4)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 4)),))

Law = Callable[[int, int], float]
"""(instances, threads) to milliseconds of one run."""


class Session:
    def __init__(self, host: Host, threads: int) -> None:
        self.spec = SPEC
        self.threads = threads
        self.open = True
        self._host = host

    def run(self, batch: Sequence[Array]) -> list[Array]:
        assert self.open
        if self._host.fails:
            raise ModelFailed("no")
        return [batch[0]]

    def close(self) -> None:
        assert self.open
        self.open = False


class Host:
    """A machine that does what a law says, on a clock that only moves while something is measured."""

    def __init__(self, law: Law) -> None:
        self.law = law
        self.now_ns = 0
        self.sessions: list[Session] = []
        self.measured: list[tuple[int, int, int]] = []
        self.overruns = 1
        self.fails = False

    def open(self, threads: int) -> Session:
        assert not self.opened, "two sessions at a time"
        self.sessions.append(Session(self, threads))
        return self.sessions[-1]

    @property
    def opened(self) -> list[Session]:
        return [one for one in self.sessions if one.open]

    def measure(
        self, run: Callable[[Sequence[Array]], object], inputs: Sequence[Array], instances: int, most_ns: int
    ) -> float:
        (session,) = self.opened
        self.now_ns += most_ns * self.overruns
        self.measured.append((instances, session.threads, len(inputs[0])))
        return self.law(instances, session.threads) * MS

    def tune(self, cores: int, run_ns: int = MS, opening_ns: int = MS, budget_ms: int = 400) -> Tuned:
        config = TuningConfig(self.open, opening_ns, cores, budget_ms * MS, self.measure, lambda: self.now_ns)
        return tune(self.open(cores), lambda rows: [np.zeros((rows, 4), np.float32)], run_ns, config)


def scales(instances: int, threads: int) -> float:
    """Threads gain nothing, instances do."""
    return 10.0


def equal(instances: int, threads: int) -> float:
    """All splits give the same, but a run on more threads is shorter."""
    return 10.0 * instances


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, [(1, 1)]),
        (2, [(1, 2), (2, 1)]),
        (6, [(1, 6), (2, 3), (4, 1), (6, 1)]),
        (16, [(1, 16), (2, 8), (4, 4), (8, 2), (16, 1)]),
    ],
)
def test_the_splits_of_the_cores(cores: int, expected: list[tuple[int, int]]) -> None:
    assert list(splits(cores)) == expected


@pytest.mark.parametrize(("law", "expected"), [(scales, (4, 1)), (equal, (1, 4))])
def test_rows_a_second_decide_and_latency_between_equals(law: Law, expected: tuple[int, int]) -> None:
    host = Host(law)
    tuned = host.tune(4)
    assert (tuned.instances, tuned.threads) == expected
    assert host.opened == [tuned.session]
    assert tuned.session is host.sessions[-1]
    assert host.sessions[-1].threads == expected[1]
    assert host.measured == [(1, 4, ROWS), (2, 2, ROWS), (4, 1, ROWS)]


def test_a_gain_within_the_noise_does_not_cost_latency() -> None:
    assert choose([Measurement(1, 2, 100.0, 5e6), Measurement(2, 1, 104.0, 9e6)]).instances == 1
    assert choose([Measurement(1, 2, 100.0, 5e6), Measurement(2, 1, 110.0, 9e6)]).instances == 2


def test_a_slow_model_is_measured_with_fewer_rows_or_not_at_all(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(scales)
    host.tune(2, run_ns=20 * MS)
    assert {rows for _, _, rows in host.measured} == {2}
    slow = Host(scales)
    with caplog.at_level(logging.INFO):
        tuned = slow.tune(2, run_ns=100 * MS)
    assert (tuned.instances, tuned.threads, slow.measured) == (1, 2, [])
    assert "instances are not tuned" in caplog.text


def test_a_model_that_takes_long_to_open_is_not_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(scales)
    with caplog.at_level(logging.INFO):
        host.tune(2, opening_ns=250 * MS)
    assert len(host.sessions) == 1
    assert "opening_ms=250" in caplog.text


def test_when_the_budget_is_over_the_best_so_far_is_taken_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    host = Host(scales)
    host.overruns = 2
    with caplog.at_level(logging.INFO):
        tuned = host.tune(8)
    assert (tuned.instances, tuned.threads) == (4, 2)
    assert len(host.measured) == 3
    assert "measured=3 of=4" in caplog.text


def test_a_model_that_fails_leaves_no_session_open() -> None:
    host = Host(scales)
    host.fails = True
    with pytest.raises(ModelFailed):
        host.tune(2)
    assert host.opened == []
