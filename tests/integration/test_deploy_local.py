"""``container.deploy --engine local``: real processes. After an end at any moment, ``up`` gives the same state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from container.deploy.__main__ import main
from container.deploy.calls import Call
from container.deploy.local import host, state
from tests.integration import sample_models
from tests.integration.local_engine import Machine
from tests.integration.server_process import ROOT, eventually
from tests.killed_command import KILLED, commands

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.chdir(tmp_path)
    made = Machine(tmp_path)
    yield made
    main(["down", "digits", *made.flags], say=lambda _: None)
    made.left(0)


@pytest.fixture
def artifacts(tmp_path: Path) -> tuple[Path, Path]:
    first = sample_models.fake(tmp_path / "one", name="digits")
    return first, sample_models.fake(tmp_path / "two", name="digits", version="2")


def test_up_update_rollback_down(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    assert machine.up(artifacts[0])[-1].startswith("in service: digits at http://127.0.0.1:")
    first = machine.answer()
    assert "predictions" in first
    before = machine.content()
    assert machine.up(artifacts[0])[-1].endswith("nothing had to change")
    assert machine.content() == before
    machine.run("update", artifacts[1], *machine.environment)
    assert machine.content()[:2] != before[:2]
    assert "predictions" in machine.answer()
    assert machine.run("rollback", "digits")[-1] == f"in service again: {before[0]}"
    assert machine.content()[0] == before[0]
    assert machine.run("status", "digits")[1].split() == ["endpoint", "InService"]
    assert machine.run("down", "digits") == ["removed: digits"]
    assert not machine.folder.root.exists()
    assert machine.run("down", "digits") == ["nothing to remove"]


def test_killed_before_any_call_up_continues_to_the_same_state(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    calls: list[Call] = []
    machine.up(artifacts[0])
    machine.run("update", artifacts[1], *machine.environment, observe=calls.append)
    wanted = machine.content()
    assert [one.operation for one in calls] == ["PutRelease", "PutDeployment", "AwaitHost"]
    update = ("update", artifacts[1], *machine.environment)
    with commands() as processes:
        for at in range(len(calls)):
            machine.run("down", "digits")
            machine.up(artifacts[0])
            assert processes.killed(at, *update, *machine.flags) == KILLED
            (machine.folder.release(".half.partial") / "model").mkdir(parents=True)
            machine.run(*update)
            assert machine.content() == wanted, f"killed at call {at}"
            machine.left(2)
    assert "predictions" in machine.answer()


def test_killed_before_and_while_the_first_server_starts(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    up = ("up", artifacts[0], *machine.environment, *machine.flags)
    with commands() as processes:
        assert processes.killed(2, *up) == KILLED, "before the host is started"
    command = [sys.executable, "-m", "container.deploy", *map(str, up)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(machine.folder.report.exists, "the host reports")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    machine.up(artifacts[0])
    assert "predictions" in machine.answer()
    machine.left(2)


def test_the_server_ends_with_a_host_that_is_killed(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    machine.up(artifacts[0], "--instance-count", "2")
    wanted = machine.content()
    machine.left(4)  # the host, the supervisor of its server, and two processes
    os.kill(state.holder(machine.folder) or 0, signal.SIGKILL)
    machine.left(0)
    assert machine.status()["endpoint"] == "Stopped"
    machine.up(artifacts[0], "--instance-count", "2")
    assert machine.content() == wanted
    assert "predictions" in machine.answer()


def test_a_server_that_ends_is_started_again(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    machine.up(artifacts[0])
    host_process = state.holder(machine.folder)
    server = next(pid for pid in machine.processes() if pid != host_process)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: server not in machine.processes() and len(machine.processes()) == 2, "another one runs")
    eventually(lambda: machine.status()["endpoint"] == "InService", "it is in service")
    assert "predictions" in machine.answer()


class Docker:
    """The docker command of a machine on which a host with a container was killed."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.containers = ["c0ffee"]

    def __call__(self, *arguments: str, **_: float) -> str:
        if arguments[0] == "ps":
            assert arguments[-1] == f"label={self.label}"
            return "\n".join(self.containers)
        assert arguments == ("rm", "--force", "--volumes", *self.containers)
        self.containers.clear()
        return ""


def test_the_container_of_a_killed_host_is_found_and_removed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker(machine.folder.label)
    monkeypatch.setattr("container.local.container.docker", docker)
    state.write(machine.folder.wanted, {"release": "r", "image": "slipway:latest", "attempt": 1})
    assert machine.status()["orphans"] == ["c0ffee"]
    with (machine.folder.log).open("w") as log:
        host._clean(machine.folder, log)
    assert docker.containers == []
    assert "removed the orphaned container c0ffee" in machine.folder.log.read_text()
    docker.containers.append("c0ffee")
    machine.run("down", "digits")
    assert docker.containers == []


def test_one_command_at_a_time_changes_a_deployment(
    machine: Machine, artifacts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with state.changing(machine.folder) as mine:
        assert mine
        machine.run("up", artifacts[0], code=1)
        assert "another command changes digits now" in capsys.readouterr().err
    machine.run("down", "digits")
    assert not machine.folder.root.exists()


def test_a_release_that_does_not_start_leaves_the_old_one(
    machine: Machine, artifacts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.up(artifacts[0])
    before = machine.content()
    machine.run("up", artifacts[0], "--env", "SLIPWAY_NO_SUCH=1", code=10)
    said = capsys.readouterr().err
    assert 'first fatal line of the log: "cannot serve: unknown environment variable SLIPWAY_NO_SUCH' in said
    assert machine.content() == before
    os.kill(state.holder(machine.folder) or 0, signal.SIGKILL)
    machine.run("up", artifacts[0], "--env", "SLIPWAY_NO_SUCH=1", code=10)
    assert machine.content() == before, "also where the host had ended"
    assert "predictions" in machine.answer()


def test_a_first_release_that_does_not_start_leaves_nothing(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    machine.run("up", artifacts[0], "--env", "SLIPWAY_NO_SUCH=1", code=10)
    assert not machine.folder.root.exists()


def test_only_an_approved_version_is_deployed(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    assert machine.run("register", artifacts[0]) == ["registered: digits version 1"]
    assert machine.run("register", artifacts[0]) == ["registered already: digits version 1"]
    from_registry = ["up", "--from-registry", "--group", "digits", *machine.environment, *machine.flags]
    assert main(from_registry, say=lambda _: None) == 5
    assert machine.run("approve", "digits") == ["Approved: digits version 1"]
    assert main(from_registry, say=lambda _: None) == 0
    assert "predictions" in machine.answer()
