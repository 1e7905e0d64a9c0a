"""Two engines, one schedule, one record: what the fast engine sees of a troubled server, locust's sees too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.load import calibration, fleet, schedule, target, wire
from bench.load.callers import Callers
from bench.load.child_server import child_server
from bench.load.measurements import COLUMNS, Outcome
from bench.load.payload import Payload
from bench.load.raw_run import RawRun, Snapshot
from bench.load.server_timing import CARRIERS, STAGES
from bench.load.shot import Shot
from bench.result import record
from tests.unit.bench.stub_server import TROUBLES

ROOT = Path(__file__).resolve().parents[2]
QUIET = ("series", "validity", "latency", "client")
"""Parts of a record that depend on how quiet the machine was, and on what the kernel tells of a process."""
SAME = ("index", "due_ns", "outcome", "status", "bytes_in", "bytes_out", "payload", "batch", "repeat")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with child_server("tests.unit.bench.stub_server") as url:
        yield url


def shot(url: str, timeout_s: float = 5.0) -> Shot:
    place, carrier = target.parse(url), CARRIERS["header"]
    rendered = (wire.render(place, Payload("p", "application/json", b"[1, 2, 3]"), carrier),)
    return Shot(place, rendered, calibration.ONLY, carrier, timeout_s, max_connections=32)


@pytest.mark.slow
def test_both_engines_see_the_same_of_the_same_troubles(server: str) -> None:
    asked = schedule.build("poisson", 70, 1, 3)
    place = shot(f"{server}/troubled/{{{{number}}}}", timeout_s=0.5)
    runs = {name: fleet.run(place, asked, 1, engine_name=name) for name in fleet.ENGINES}
    fast, locust = runs[fleet.FAST], runs[fleet.LOCUST]
    assert set(fast.columns["outcome"].tolist()) == set(Outcome)
    assert len(fast.columns["index"]) >= 5 * len(TROUBLES)
    assert np.array_equal(locust.columns["due_ns"], asked.offsets_ns)
    for name in (*SAME, *(f"{stage}_ns" for stage in STAGES)):
        assert np.array_equal(fast.columns[name], locust.columns[name]), name
    assert fast.failures.keys() == locust.failures.keys()
    assert fast.failures["503"] == locust.failures["503"]
    for run in runs.values():
        assert tuple(run.columns) == COLUMNS
        answered = run.columns["outcome"] == Outcome.OK
        instants = [run.columns[f"{name}_ns"][answered] for name in ("due", "picked", "send", "sent", "first_byte")]
        for earlier, later in zip(instants, [*instants[1:], run.columns["last_byte_ns"][answered]], strict=True):
            assert (earlier <= later).all()


@pytest.mark.slow
def test_a_large_body_is_sent_whole_and_timed_to_its_last_byte(server: str) -> None:
    place, carrier = target.parse(server), CARRIERS["header"]
    rendered = (wire.render(place, Payload("large", "application/octet-stream", bytes(5_000_000)), carrier),)
    large = Shot(place, rendered, calibration.ONLY, carrier, 10.0, max_connections=4)
    run = fleet.run(large, schedule.build("constant", 10, 0.5, 1), 1, engine_name=fleet.LOCUST)
    assert run.columns["outcome"].tolist() == [Outcome.OK] * 5
    assert (run.columns["sent_ns"] > run.columns["send_ns"]).all()


def test_locust_callers_wait_for_each_answer_and_are_dealt_over_processes(server: str) -> None:
    seen: list[Snapshot] = []
    run = fleet.run(shot(server), Callers(3, 0.3), 2, seen.append, fleet.LOCUST)
    assert run.peak_in_flight == 3
    assert (run.columns["outcome"] == Outcome.OK).all()
    assert np.array_equal(run.columns["index"], np.arange(len(run.columns["index"])))
    assert seen


def test_nobody_there_is_an_error_of_every_request() -> None:
    def refused(name: str) -> RawRun:
        return fleet.run(shot("http://127.0.0.1:1"), schedule.build("constant", 20, 0.5, 1), 1, engine_name=name)

    assert {name: refused(name).columns["outcome"].tolist() for name in fleet.ENGINES} == {
        name: [Outcome.CONNECTION] * 10 for name in fleet.ENGINES
    }


@pytest.mark.slow
def test_one_record_from_either_engine(server: str, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text("[1, 2, 3]")
    found = {}
    for name in fleet.ENGINES:
        command = [sys.executable, "-m", "bench", "run", server, "--payload", str(body), "--rate", "100", "--engine"]
        output = tmp_path / f"{name}.json"
        done = subprocess.run(
            [*command, name, "--duration", "0.5", "--warmup", "0.2", "--skip-calibration", "--output", str(output)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        told = json.loads(done.stdout)
        assert done.returncode == (0 if told["validity"]["ok"] else 1), done.stderr
        _, columns = record.read(output)
        found[name] = json.loads(output.read_text())
        assert (columns["compute_ns"] == 10_000).all()
        assert output.with_suffix(".html").exists()
    fast, locust = found[fleet.FAST], found[fleet.LOCUST]
    assert (fast["load"]["engine"], locust["load"]["engine"]) == ("fast", "locust")
    assert _shape(fast) == _shape(locust)
    for told in (fast, locust):
        told["load"]["engine"] = None
    assert fast["load"] == locust["load"]
    assert fast["window"]["requests"] == locust["window"]["requests"]


def _shape(found: object) -> object:
    """Names and kinds, without values; what depends on how quiet the machine was is left out."""
    if isinstance(found, dict):
        return {name: _shape(value) for name, value in found.items() if name not in QUIET}
    if isinstance(found, list):
        return "list"
    return "number" if isinstance(found, int | float) else "text" if found is not None else None


INTERRUPTED = """
import json, os, signal, sys
from bench.load import fleet, schedule
from tests.integration.test_bench_locust_engine import shot

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background starts it ignored
sent = []

def watch(now):
    if now.ended >= 5 and not sent:
        sent.append(now)
        os.kill(os.getpid(), signal.SIGINT)

run = fleet.run(shot(sys.argv[1]), schedule.build("poisson", 50, 60, 1), 1, watch, fleet.LOCUST)
print(json.dumps([run.interrupted, len(run.columns["index"]), len(run.scheduled_ns)]))
"""


def test_ctrl_c_keeps_what_locust_had_seen(server: str) -> None:
    """In a process of its own: Ctrl-C in a process of the test runner can end the runner."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, server], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    interrupted, rows, scheduled = json.loads(done.stdout)
    assert interrupted
    assert 5 <= rows < scheduled
