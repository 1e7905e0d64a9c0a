"""The record of a load on the simulated server, which can be forecast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.explain import forecast
from bench.observe.timeline import ServerTimeline
from bench.result import record
from tests.unit.bench.planted_record import CONFIG, planted_record
from tests.unit.bench.simulated_server import World

RATE, SECONDS = 250.0, 4.0


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forecast") / "run.json"
    world = World()
    rows = world.columns(RATE, SECONDS, 1)
    config = replace(CONFIG, rate_per_s=RATE, duration_s=SECONDS, warmup_s=0.0)
    told = ServerTimeline(None, (), {}, {}, None, None, 0, None, (), world.works())
    record.write(path, replace(planted_record(rows, config), host=told), rows)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forecasts of one seed and few requests."""
    monkeypatch.setattr(forecast, "SEEDS", 1)
    monkeypatch.setattr(forecast, "RESAMPLED_REQUESTS", 200)
