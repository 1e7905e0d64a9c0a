"""``container.deploy --engine local``: real processes. After an end at any moment, ``up`` gives the same state."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container.deploy.__main__ import main
from container.deploy.calls import Call
from container.deploy.local import state
from container.deploy.local.state import Folder
from tests.integration import sample_models
from tests.integration.server_process import ROOT, eventually

BODY = '{"instances": [[1, 2, 3, 4]]}'


class Killed(BaseException):
    """The process ends at once."""


class Machine:
    """The engine of this machine with a folder of the test's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.flags = ("--engine", "local", "--state", str(root / "state"), "--port", "0")
        self.environment = ("--env", "SLIPWAY_DRAIN_GRACE_S=0")
        self.folder = Folder(root / "state" / "deployments" / "digits")
        self.body = root / "body.json"
        self.body.write_text(BODY)

    def run(self, command: str, *arguments: str | Path, observe: Callable[[Call], None] = lambda _: None) -> list[str]:
        """The lines of a command, which must succeed."""
        lines: list[str] = []
        code = main([command, *map(str, arguments), *self.flags], say=lines.append, observe=observe)
        assert code == 0, lines
        return lines

    def up(self, artifact: Path, *more: str, observe: Callable[[Call], None] = lambda _: None) -> list[str]:
        return self.run("up", artifact, *self.environment, *more, observe=observe)

    def answer(self) -> str:
        return self.run("invoke", "digits", "--body", self.body)[0]

    def content(self) -> tuple[object, ...]:
        wanted = state.read(self.folder.wanted)
        return wanted.get("release"), wanted.get("previous"), sorted(self.folder.releases()), state.running(self.folder)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.chdir(tmp_path)
    made = Machine(tmp_path)
    yield made
    main(["down", "digits", *made.flags])


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
    assert machine.run("rollback", "digits") == [f"in service again: {before[0]}"]
    assert machine.content()[0] == before[0]
    assert machine.run("status", "digits")[1].split() == ["endpoint", "InService"]
    assert machine.run("down", "digits") == ["removed: digits"]
    assert not machine.folder.root.exists()
    assert machine.run("down", "digits") == ["nothing to remove"]


def test_killed_at_any_call_up_continues_to_the_same_state(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    calls: list[Call] = []
    machine.up(artifacts[0], observe=calls.append)
    wanted = machine.content()
    for at in range(len(calls)):
        machine.run("down", "digits")
        count = iter(range(len(calls)))

        def observe(_: Call, count: Iterator[int] = count, at: int = at) -> None:
            if next(count) == at:
                raise Killed

        with pytest.raises(Killed):
            machine.up(artifacts[0], observe=observe)
        machine.up(artifacts[0])
        assert machine.content() == wanted, f"killed at call {at}"
        assert "predictions" in machine.answer()


def test_a_real_kill_while_the_container_starts(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "container.deploy", "up", str(artifacts[0]), *machine.environment, *machine.flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(machine.folder.report.exists, "the host reports")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    machine.up(artifacts[0])
    assert "predictions" in machine.answer()


def test_a_release_that_does_not_start_leaves_the_old_one(
    machine: Machine, artifacts: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    machine.up(artifacts[0])
    before = machine.content()
    code = main(["up", str(artifacts[0]), "--env", "SLIPWAY_NO_SUCH=1", *machine.flags], say=lambda _: None)
    said = capsys.readouterr().err
    assert code == 10
    assert 'first fatal line of the log: "cannot serve: unknown environment variable SLIPWAY_NO_SUCH' in said
    assert machine.content() == before
    assert "predictions" in machine.answer()


def test_a_first_release_that_does_not_start_leaves_nothing(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    code = main(["up", str(artifacts[0]), "--env", "SLIPWAY_NO_SUCH=1", *machine.flags], say=lambda _: None)
    assert code == 10
    assert not machine.folder.root.exists()


def test_only_an_approved_version_is_deployed(machine: Machine, artifacts: tuple[Path, Path]) -> None:
    assert machine.run("register", artifacts[0]) == ["registered: digits version 1"]
    assert machine.run("register", artifacts[0]) == ["registered already: digits version 1"]
    from_registry = ["up", "--from-registry", "--group", "digits", *machine.environment, *machine.flags]
    assert main(from_registry, say=lambda _: None) == 5
    assert machine.run("approve", "digits") == ["Approved: digits version 1"]
    assert main(from_registry, say=lambda _: None) == 0
    assert "predictions" in machine.answer()


@pytest.mark.parametrize(
    "flag", ["--inference-component", "--multi-model", "--asynchronous=s3://b/k", "--serverless=1024"]
)
def test_what_the_engine_lacks_is_refused(
    machine: Machine, artifacts: tuple[Path, Path], capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    models = artifacts[0].parent / "models"
    models.mkdir()
    artifacts[0].rename(models / "one")
    where = models if flag == "--multi-model" else models / "one"
    assert main(["up", str(where), flag, *machine.flags]) == 2
    assert "the local engine has no " + flag.partition("=")[0] in capsys.readouterr().err
