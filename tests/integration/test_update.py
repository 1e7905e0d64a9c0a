"""The update loop against a real server under load: promotion, rejection, and a kill of the loop in the canary."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from container.update.__main__ import main
from container.update.record import NAME
from tests.integration import sample_models
from tests.integration.conftest import Serve
from tests.integration.server_process import ROOT, ServerProcess, eventually

POISON = 666.0


@contextmanager
def traffic(server: ServerProcess, value: float = 1.0) -> Iterator[list[int]]:
    """Requests one after the other until the block ends; their statuses."""
    stop, statuses = threading.Event(), []

    def send() -> None:
        while not stop.is_set():
            statuses.append(server.post("/v2/models/m/infer", body(value)).status)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


def body(value: float) -> Any:
    return {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [value] * 4}]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the server's models, held-out rows, and an empty folder for new models."""
    sample_models.fake(tmp_path / "models" / "m" / "1", name="m")
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, labels=rows.argmax(axis=1))
    (tmp_path / "new").mkdir()
    return tmp_path


def arguments(place: Path, server: ServerProcess) -> list[str]:
    return [
        *("once", "--watch", str(place / "new"), "--name", "m", "--work", str(place / "work")),
        *("--server", f"http://127.0.0.1:{server.port}", "--publish", str(place / "models")),
        *("--held-out", str(place / "rows.npz"), "--shadow-requests", "20", "--canary", "20,50"),
        *("--canary-answers", "20", "--latency", "0", "--probation-s", "1", "--step-s", "60", "--poll-s", "0.05"),
    ]


def answers(server: ServerProcess) -> Any:
    return server.get("/admin/models/m").json()["answers"]


def steps(place: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (place / "work" / NAME).read_text().splitlines()]
    return [(line["step"], line["event"]) for line in lines]


@pytest.mark.slow
def test_a_new_model_is_promoted_under_load_and_a_worse_one_is_not_in_all_processes(place: Path, serve: Serve) -> None:
    server = serve(place / "models", "--probation-s", "1", "--processes", "2").ready()
    sample_models.fake(place / "new" / "a", name="whatever", width=4)
    with traffic(server) as statuses:
        assert main(arguments(place, server)) == 0
        assert answers(server) == "2"
        assert (place / "models" / "m" / "2" / "manifest.json").is_file()
        assert main(arguments(place, server)) == 0  # nothing new
        sample_models.fake(place / "new" / "b", poison=1.0)  # fails on what clients send, and not on the held-out rows
        assert main(arguments(place, server)) == 3
    assert set(statuses) == {200}
    assert answers(server) == "2"
    done = [step for step, event in steps(place) if event == "done"]
    assert done == [
        *("found", "build", "gate", "load", "shadow", "canary 20", "canary 50", "promote", "publish"),
        *("found", "build", "gate", "load", "shadow"),
    ]
    model = server.get("/admin/models/m").json()
    assert {one["version"]: one["state"] for one in model["versions"]}.get("3") != "READY"
    assert model["comparison"] is None
    assert main(["replay", str(place / "work")]) == 0
    assert not (place / "models" / "m" / "3").exists()


def test_a_model_that_fails_on_held_out_rows_never_reaches_the_server(place: Path, serve: Serve) -> None:
    server = serve(place / "models").ready()
    rows = np.zeros((8, 4), np.float32)
    rows[3] = POISON
    np.savez(place / "rows.npz", x=rows, labels=rows.argmax(axis=1))
    sample_models.fake(place / "new" / "a", poison=POISON)
    assert main(arguments(place, server)) == 3
    assert [one["version"] for one in server.get("/admin/models/m").json()["versions"]] == ["1"]
    shutil.rmtree(place / "new" / "a")
    (place / "new" / "b").mkdir()
    (place / "new" / "b" / "manifest.json").write_text("{}")
    assert main(arguments(place, server)) == 3  # no model at all
    assert answers(server) == "1"


@pytest.mark.slow
def test_a_loop_that_is_killed_in_its_canary_goes_on_and_promotes(place: Path, serve: Serve) -> None:
    server = serve(place / "models", "--probation-s", "1").ready()
    sample_models.fake(place / "new" / "a", width=4)
    command = [sys.executable, "-m", "container.update", *arguments(place, server)]
    record = place / "work" / NAME
    with traffic(server) as statuses:
        process = subprocess.Popen(
            [*command, "--canary-answers", "100000"], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            eventually(lambda: record.exists() and ("canary 20", "began") in steps(place), "the canary begins")
            eventually(
                lambda: (server.get("/admin/models/m").json()["comparison"] or {}).get("kind") == "canary", "it runs"
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert answers(server) == "1"
        assert main(arguments(place, server)) == 0
    assert set(statuses) == {200}
    assert answers(server) == "2"
    done = [step for step, event in steps(place) if event == "done"]
    assert done == ["found", "build", "gate", "load", "shadow", "canary 20", "canary 50", "promote", "publish"]
