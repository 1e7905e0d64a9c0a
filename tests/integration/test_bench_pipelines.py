"""bench at a real pipeline: the steps, their times, batches and costs are the server's own, read while it is loaded."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bench.report import page, source, terminal
from tests.integration.server_process import ROOT, server_process

STEPS = {
    "steps": [
        {"name": "first", "backend": "fake", "file": "first.json", "batch_sizes": [1, 4]},
        {
            "name": "second",
            "backend": "fake",
            "file": "second.json",
            "inputs": {"x": "y"},
            "batch_sizes": [1, 4],
            "instances": 2,
        },
    ]
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of a short load of two steps, of which the second takes a planted 4 ms at least."""
    directory = tmp_path_factory.mktemp("pipeline")
    model = directory / "fakes"
    model.mkdir()
    (model / "pipeline.json").write_text(json.dumps(STEPS))
    (model / "first.json").write_text(json.dumps({"wait_us": 1_000}))
    (model / "second.json").write_text(json.dumps({"wait_us": 4_000}))
    body = directory / "body.json"
    body.write_text(json.dumps({"instances": [[1, 2, 3, 4]]}))
    output = directory / "run.json"
    load = ["--payload", str(body), "--rate", "40", "--duration", "2.6", "--warmup", "0", "--skip-calibration"]
    with server_process(directory, model) as server:
        server.ready()
        command = [sys.executable, "-m", "bench", "run", f"http://127.0.0.1:{server.port}", *load]
        done = subprocess.run(
            [*command, "--output", str(output)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode in (0, 1), done.stderr  # whether a shared machine kept the schedule is not the question
    return output


def test_each_step_is_told_with_its_own_times_batches_and_costs(written: Path) -> None:
    found = json.loads(written.read_text())
    first, second = found["host"]["works"]
    assert [one["step"] for one in (first, second)] == ["first", "second"]
    assert (first["instances"], second["instances"]) == (1, 2)
    for one, least_ms in ((first, 1.0), (second, 4.0)):
        assert one["runs"] > 0
        assert one["rows"] >= one["runs"]
        assert one["stages_ms"]["compute"] >= least_ms
        assert one["busy"] >= one["runs"] * least_ms / 1e3 / one["seconds"]
        assert {cost["rows"] for cost in one["costs"]} >= {1, 4}
    batching = found["explanation"]["batching"]
    assert [law["step"] for law in batching["steps"]] == ["first", "second"]
    assert batching["law"] is None  # one compute time for all steps makes no law of a run
    assert "gc_share" in found["host"]["series"]
    assert "loop_lag_ms" in found["host"]["series"]
    assert found["host"]["cores"] >= 1


def test_the_page_shows_the_steps_below_the_stages(written: Path) -> None:
    run = source.read(written)
    run = replace(run, record=replace(run.record, validity=replace(run.record.validity, ok=True)))
    shown = page.render([run])
    assert "By step: ms of a request on average" in shown
    assert "<td>second</td>" in shown
    assert "capacity of one instance" in shown
    assert any("step second was the busiest" in one for one in source.explained(run).evidence["Requests and queue"])


def test_a_step_on_the_card_is_its_line_in_the_page(written: Path) -> None:
    run = source.read(written)
    assert run.record.host is not None
    text = io.StringIO()
    table = terminal.steps_table(run.record.host.works)
    assert table is not None
    Console(width=160, file=text).print(table)
    shown = [line.split() for line in text.getvalue().splitlines()]
    assert [(line[0], len(line)) for line in shown[-2:]] == [("first", 7), ("second", 7)]  # nothing is padded here
