"""The calibration, over runs of an engine that is planned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench.load import calibration, fleet
from bench.load.measurements import Outcome
from bench.load.payload import Payload


def run(latencies_ms: list[float], callers: int, cpu: float = 0.9) -> Any:
    """A run in which so many callers each wait for their response."""
    took_ns = np.array(latencies_ms) * 1e6
    ended_ns = np.add.accumulate(took_ns) / callers if callers == 1 else took_ns
    outcome = np.full(len(took_ns), Outcome.OK)
    columns = {"due_ns": ended_ns - took_ns, "last_byte_ns": ended_ns, "outcome": outcome}
    return SimpleNamespace(columns=columns, interrupted=False, generator_cpu=cpu)


@pytest.mark.parametrize(
    ("ceiling_ms", "cpu", "reached_per_s"),
    [
        ([], 0.9, 4.0),
        ([1_000.0], 0.9, 4.0),
        ([900.0, 1_000.0], 0.9, 10.0),
        ([900.0, 1_000.0], 0.03, 100.0),
        ([900.0, 1_000.0], 0.0, 300.0),
    ],
    ids=["nobody was answered", "one was", "two were", "the network was slow", "no CPU is seen"],
)
def test_a_large_body_has_at_least_the_ceiling_of_one_caller(
    monkeypatch: pytest.MonkeyPatch, ceiling_ms: list[float], cpu: float, reached_per_s: float
) -> None:
    runs = iter([run([1.0], 1), run([250.0], 1), run(ceiling_ms, 32, cpu)])

    @contextlib.contextmanager
    def echo() -> Iterator[str]:
        yield "http://127.0.0.1:1/invocations"

    monkeypatch.setattr(calibration, "echo_server", echo)
    monkeypatch.setattr(fleet, "run", lambda *_, **__: next(runs))
    found = calibration.calibrate(Payload("b", "application/json", bytes(600_000)))
    assert found.ceiling_per_s == pytest.approx(reached_per_s)
    assert found.usable_rate_per_s == pytest.approx(reached_per_s / 2)
