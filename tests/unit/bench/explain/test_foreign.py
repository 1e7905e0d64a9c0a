"""The queueing forecast for a server without stage times, against a queue whose behaviour is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.explain import forecast, foreign
from bench.explain.changes import Change
from bench.explain.workload import NoForecast
from bench.load.burst import Together
from bench.load.measurements import COLUMNS, Outcome
from bench.load.schedule import build
from tests.unit.bench.planted_facts import burst

EACH_MS, REST_MS, SECONDS = 4.0, 1.0, 8.0
SERIAL = burst(
    EACH_MS + REST_MS, floor_ms=0.5, stagger_ms=None, staggered_ms=None,
    together=tuple(Together(size, tuple(REST_MS + EACH_MS * at for at in range(1, size + 1))) for size in (2, 4, 8)),
)  # fmt: skip
SPANS = [(0.0, SECONDS)]


def rows(rate_per_s: float, each_ms: float = EACH_MS, seed: int = 1) -> dict[str, NDArray[np.int64]]:
    """Requests to one worker that takes ``each_ms`` for each, and adds ``REST_MS`` without holding the next one up."""
    due = build("poisson", rate_per_s, SECONDS, seed).offsets_ns
    free, last = 0, np.zeros(len(due), np.int64)
    for at, instant in enumerate(due.tolist()):
        free = max(free, instant) + int(each_ms * 1e6)
        last[at] = free + int(REST_MS * 1e6)
    found = {"due_ns": due, "picked_ns": due, "send_ns": due, "sent_ns": due, "first_byte_ns": last}
    found |= {"last_byte_ns": last, "outcome": np.full(len(due), int(Outcome.OK))}
    missing = np.full(len(due), -1, np.int64)
    return {name: found.get(name, missing if name.endswith("_ns") else missing + 1) for name in COLUMNS}


def p99_ms(columns: dict[str, NDArray[np.int64]]) -> float:
    return float(np.quantile(columns["last_byte_ns"] - columns["due_ns"], 0.99)) / 1e6


@pytest.mark.parametrize(
    ("change", "rate", "each_ms"),
    [(Change(rate=0.5), 60.0, 4.0), (Change(rate=1.5), 180.0, 4.0), (Change(compute=0.5), 120.0, 2.0)],
)
def test_one_worker_is_forecast(change: Change, rate: float, each_ms: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "SEEDS", 1)
    base = foreign.measured(rows(120.0), SPANS, SERIAL, 100.0)
    found = forecast.forecast(base, change, resamples=3).predictions["p99"]
    truth = np.mean([p99_ms(rows(rate, each_ms, seed)) / p99_ms(rows(120.0, seed=seed)) for seed in range(1, 7)])
    assert found.ratio == pytest.approx(truth, rel=0.2)
    assert found.low <= truth <= found.high


def test_what_the_probe_does_not_show_is_not_forecast() -> None:
    ends = tuple(Together(size, (EACH_MS + REST_MS,) * size) for size in (2, 4, 8))
    with pytest.raises(NoForecast, match="one request at a time"):
        foreign.measured(rows(120.0), SPANS, replace(SERIAL, together=ends), 100.0)
    base = foreign.measured(rows(120.0), SPANS, SERIAL, 100.0)
    for change in (Change(instances=2), Change(binary=True), Change(max_batch_size=4, rate=3.0)):
        with pytest.raises(NoForecast):
            forecast.forecast(base, change, resamples=2)
