"""``container.deploy --engine local`` beside ``up``: canary, shadow, scale, and the other kinds of endpoints."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from container.deploy.__main__ import main
from container.deploy.local import state
from container.deploy.order import Clock
from tests.integration import sample_models
from tests.integration.local_engine import Machine
from tests.integration.server_process import eventually

pytestmark = pytest.mark.slow

POISON = 666.0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.chdir(tmp_path)
    made = Machine(tmp_path)
    yield made
    main(["down", "digits", *made.flags], say=lambda _: None)


def artifact(machine: Machine, version: str, **fields: Any) -> Path:
    return sample_models.fake(machine.root / f"v{version}", name="digits", version=version, **fields)


class Traffic:
    """A clock whose every pause is a hundred requests, and ``step_s`` seconds long."""

    def __init__(self, machine: Machine, value: float, step_s: float) -> None:
        self.machine = machine
        self.value = value
        self.step_s = step_s
        self.now_s = 0.0
        self.statuses: set[int] = set()

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now_s, sleep=self._pause)

    def _pause(self, asked_s: float) -> None:
        if asked_s < 1:  # a look at the host, not at the canary
            time.sleep(asked_s)
            return
        self.statuses.update(self.machine.post(self.value) for _ in range(100))
        self.now_s += self.step_s


def test_a_canary_that_keeps_its_rules_serves_and_can_be_taken_back(machine: Machine) -> None:
    first, second = artifact(machine, "1"), artifact(machine, "2", width=4)
    machine.run("canary", first, *machine.environment, code=5)
    machine.up(first)
    before = machine.content()[0]
    planned = json.loads(machine.run("plan", second, *machine.environment, "--for", "canary", "--json")[0])
    assert [one["operation"] for one in planned["calls"]] == ["PutRelease", "PutDeployment", "AwaitHost"]
    assert planned["calls"][1]["parameters"]["candidate"]["percent"] == 10
    traffic = Traffic(machine, 1.0, 60.0)
    flags = (*machine.environment, "--canary-percent", "40", "--canary-minutes", "3")
    lines = machine.run("canary", second, *flags, clock=traffic.clock())
    assert traffic.statuses == {200}
    assert "canary: 120 answers, 0 faults" in "\n".join(lines)
    assert machine.content()[:2] != (before, None)
    assert machine.content()[1] == before
    assert machine.status()["candidate"] is None
    assert machine.run("canary", second, *flags)[-1].endswith("nothing had to change")
    assert machine.run("rollback", "digits")[-1] == f"in service again: {before}"
    assert machine.post(1.0) == 200


def test_a_canary_that_fails_is_ended_by_the_server(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.up(artifact(machine, "1"))
    before = machine.content()
    worse = artifact(machine, "2", poison=POISON)
    traffic = Traffic(machine, POISON, 0.0)  # its time never ends: only the rules can end it
    flags = (*machine.environment, "--canary-percent", "50")
    machine.run("canary", worse, *flags, clock=traffic.clock(), code=10)
    assert "was ended: rolled back by its rules: error rate 100.0% against 0.0%" in capsys.readouterr().err
    assert traffic.statuses == {200, 424}
    assert machine.content() == before
    assert machine.post(POISON) == 200


def test_a_shadow_gets_copies_and_survives_its_server(machine: Machine) -> None:
    first, second = artifact(machine, "1"), artifact(machine, "2", poison=POISON)
    machine.up(first)
    before = machine.content()
    flags = (*machine.environment, "--shadow-percent", "100")
    assert machine.run("shadow", second, *flags)[-1].startswith("the shadow gets copies")
    assert {machine.post(1.0), machine.post(POISON)} == {200}

    def outcomes() -> dict[str, int]:
        counts: dict[str, int] = machine.status()["candidate"]["figures"]["outcomes"]
        return counts

    eventually(lambda: (outcomes().get("same"), outcomes().get("failed")) == (1, 1), "both copies are compared")
    assert machine.run("shadow", second, *flags) == ["nothing had to change"]
    host = state.holder(machine.folder)
    server = next(pid for pid in machine.processes() if pid != host)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: server not in machine.processes() and machine.status()["candidate"]["figures"], "it runs again")
    assert machine.run("rollback", "digits")[-1] == f"in service again: {before[0]}"
    assert machine.content() == before
    machine.run("update", second, *machine.environment)
    assert machine.post(POISON) == 424


def test_instances_are_processes_behind_one_address(machine: Machine) -> None:
    machine.up(artifact(machine, "1"))
    release, url = machine.content()[0], machine.status()["url"]
    assert machine.run("scale", "digits", "--instance-count", "2")[-1] == "scaled"
    assert machine.run("scale", "digits", "--instance-count", "2") == ["nothing had to change"]
    status = machine.status()
    assert (status["release"], status["instances"], status["url"]) == (release, 2, url)
    machine.left(4)  # the host, the supervisor of its server, and two processes
    assert machine.post(1.0) == 200
    cost = json.loads(machine.run("cost", "digits", "--json", "--instance-count", "2")[0])
    assert (cost["per_month"], cost["source"].startswith("this machine has no price")) == ([0.0, 0.0], True)
    assert cost["measured"]["processor_seconds"] > 0
    assert cost["measured"]["memory_bytes"] > 1e6
    assert machine.run("policy", machine.root / "v1")[0].startswith("no policy is needed")


def test_push_copies_the_model_that_up_then_finds(machine: Machine) -> None:
    one = artifact(machine, "1")
    assert machine.run("push", one, *machine.environment)[0].startswith(f"copied to {machine.folder.root}/releases/")
    assert machine.run("push", one, *machine.environment) == ["nothing to copy"]
    assert not machine.folder.wanted.exists()
    machine.run("down", "digits")


def test_one_deployment_through_all_kinds(machine: Machine) -> None:
    models = machine.root / "models"
    sample_models.fake(models / "a", name="a")
    sample_models.fake(models / "b", name="b")
    machine.up(models, "--multi-model", "--name", "digits")
    assert "predictions" in machine.answer("--target-model", "a")
    assert "predictions" in machine.answer("--target-model", "b.tar.gz")
    assert machine.status()["kind"] == "multi-model"
    one = artifact(machine, "1")
    machine.run("update", one, *machine.environment, "--asynchronous", "s3://results/digits")
    told = machine.answer()
    assert told.startswith("accepted; the result will be s3://results/digits/")
    result = Path(told.rpartition("the file ")[2])
    eventually(result.exists, "the result is written")
    assert "predictions" in result.read_text()
    machine.run("update", one, *machine.environment, "--serverless", "1024", "--max-concurrency", "1")
    assert "predictions" in machine.answer()
    machine.body.write_text(json.dumps({"instances": [[1.0] * 4] * 500_000}))
    machine.run("invoke", "digits", "--body", machine.body, code=1)
    machine.run("scale", "digits", "--instance-count", "2", code=2)
    machine.run("canary", artifact(machine, "2"), *machine.environment, code=2)


REFUSED = {
    "--inference-component": "has no inference components",
    "--max-instances=3": "does not scale by itself",
    "--error-topic=arn:aws:sns:x": "publishes to no topic",
    "--capture=s3://b/k": "--env SLIPWAY_CAPTURE_TO=FOLDER",
    "--asynchronous=folder": "takes s3://BUCKET/PREFIX",
    "--serverless=1000": "1024 to 6144 MB",
    "--instance-count=0": "at least one instance",
}


@pytest.mark.parametrize("flag", REFUSED)
def test_what_the_engine_lacks_is_one_sentence(machine: Machine, capsys: pytest.CaptureFixture[str], flag: str) -> None:
    machine.run("up", artifact(machine, "1"), flag, code=2)
    said = capsys.readouterr().err
    assert REFUSED[flag] in said
    assert len(said.splitlines()) == 1
    assert not machine.folder.root.exists()


def refused(machine: Machine, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(command: str, *arguments: str | Path) -> str:
        machine.run(command, *arguments, code=2)
        return capsys.readouterr().err

    return run


def test_a_candidate_that_cannot_be_compared_is_refused(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    first = artifact(machine, "1")
    machine.up(first)
    before = machine.content()
    run = refused(machine, capsys)
    assert "environment differ" in run("canary", artifact(machine, "2"), "--env", "SLIPWAY_LOG_LEVEL=debug")
    assert "is the one in service" in run("shadow", first, *machine.environment)
    assert "--canary-percent takes 1 to 50" in run(
        "canary", machine.root / "v2", *machine.environment, "--canary-percent", "60"
    )
    other = artifact(machine, "3", width=5)
    machine.run("canary", other, *machine.environment, code=10)
    assert "do not take the same inputs" in capsys.readouterr().err
    assert machine.content() == before
    assert machine.post(1.0) == 200
