"""Verdicts on real servers with a fault, where no speed of this machine decides: what bench names, and its evidence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.commands import explain
from bench.experiments import confirm
from bench.explain.verdict import PROVEN
from bench.load.child_server import child_server
from bench.load.server_timing import MISSING
from bench.result import record
from tests.benchmarks.bench.plants.around import ROOT
from tests.integration import sample_models
from tests.integration.server_process import server_process

pytestmark = [pytest.mark.slow, pytest.mark.alone]

TIMER_MS = 120


def verdict(url: str, body: object, folder: Path, *options: str) -> dict[str, Any]:
    """The record of a load of two seconds."""
    path, output = folder / "body.json", folder / "run.json"
    path.write_text(json.dumps(body))
    load = ["--payload", str(path), "--rate", "30", "--duration", "2", "--skip-calibration", "--json", *options]
    command = [sys.executable, "-m", "bench", "run", url, *load, "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert output.exists(), done.stderr
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_closed_connections_are_counted_on_a_foreign_server(tmp_path: Path) -> None:
    with child_server("tests.benchmarks.bench.plants.fastapi_app", "close") as url:
        found = verdict(f"{url}/predict", {"values": [1.0, 2.0]}, tmp_path)
    assert found["client"]["connections"] >= 0.9 * found["client"]["requests"]
    assert "connections" not in found["verdict"]["ruled_out"]
    assert "connections" in found["testable"]
    assert "batch_timer" not in found["testable"]


def test_a_timer_is_named_on_slipway_and_its_stamps_are_in_the_record(tmp_path: Path) -> None:
    model = sample_models.fake(tmp_path / "m", wait_us=1_000)
    flags = ("--slowdowns", "--inline-below-us", "0", "--max-queue-delay-us", str(TIMER_MS * 1_000))
    with server_process(tmp_path, model, *flags) as server:
        url = f"http://127.0.0.1:{server.ready().port}/invocations"
        found = verdict(url, {"instances": [[1.0, 2.0, 3.0, 4.0]]}, tmp_path, "--warmup", "0.2")
    causes = {one["name"]: one for one in found["verdict"]["causes"]}
    assert causes["batch_timer"]["confidence"] == "likely"
    assert causes["batch_timer"]["prove"].endswith("--confirm")
    (work,) = found["host"]["works"]
    assert work["choices"]["max_queue_delay_ms"] == TIMER_MS
    # The fake model waits without a core: its run takes longer than its thread computes.
    assert work["cpu_share"] < 0.9
    assert found["host"]["totals"]["connections"] is not None
    assert {"batch_timer", "hardware"} <= set(found["testable"])
    with np.load(tmp_path / "run.npz") as rows:
        assert (rows["rows"] == 1).all()
        assert (rows["ahead"] >= 0).all()
        assert (rows["padded"] == MISSING).all()


def test_a_planted_timer_is_proven_on_a_real_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A timer of 30 ms before runs of 1 ms. Short blocks."""
    monkeypatch.setattr(confirm, "BLOCK_S", 0.6)
    flags = ("--slowdowns", "--inline-below-us", "0", "--max-queue-delay-us", "30000")
    with server_process(tmp_path, sample_models.fake(tmp_path / "m", wait_us=1_000), *flags) as server:
        url = f"http://127.0.0.1:{server.ready().port}/invocations"
        verdict(url, {"instances": [[1.0, 2.0, 3.0, 4.0]]}, tmp_path, "--warmup", "0.2", "--rate", "100")
        found = explain.confirmed(*record.read(tmp_path / "run.json")).verdict
        assert server.get("/admin/slowdown").json()["stage"] is None
    assert found is not None
    assert (found.causes[0].name, found.causes[0].confidence) == ("batch_timer", PROVEN), found
