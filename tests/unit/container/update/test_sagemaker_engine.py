"""The SageMaker engine: which commands of container.deploy it runs, and what it makes of their ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from container.deploy.__main__ import main
from container.deploy.arguments import parser
from container.update import judge
from container.update.errors import StepFailed, Unreachable, UpdateError
from container.update.sagemaker_engine import NOT_THERE, SageMakerEngine
from container.update.settings import Settings
from tests.fake_account import IMAGE, ROLE, fake_account
from tests.integration import sample_models
from tests.unit.container.deploy.conftest import FakeClock


class Deploy:
    """container.deploy: an endpoint that serves one artifact, or none. ``fails``: exit code and error by command."""

    def __init__(self, serves: str | None) -> None:
        self.serves = serves
        self.shadow = ""
        self.commands: list[str] = []
        self.fails: dict[str, tuple[int, str]] = {}

    def __call__(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        parser().parse_args(arguments)  # of container.deploy itself: it ends the process on a wrong command line
        command, *rest = arguments
        assert rest[-1] == "--json" or command not in ("status", "plan")
        assert rest[rest.index("--name") :][:4] == ["--name", "m", "--region", "eu-west-1"]
        if command in self.fails:
            code, text = self.fails[command]
            return code, "", f"deploy: {text}\n"
        if command == "status":
            if self.serves is None:
                return NOT_THERE, "", "deploy: there is no endpoint m\n"
            return 0, json.dumps({"configuration": f"m-{self.serves}", "shadow": self.shadow or None}), ""
        self.commands.append(command)
        version = Path(rest[0]).name
        if command == "plan":
            return 0, json.dumps({"calls": [] if self.serves == version else [{"operation": "UpdateEndpoint"}]}), ""
        if command in ("up", "canary"):
            self.serves, self.shadow = version, ""
        elif command == "shadow":
            self.shadow = version
        elif command == "rollback":
            self.serves, self.shadow = "1", ""
        return 0, f"{command} done\n", ""


def engine(deploy: Deploy, tmp_path: Path) -> SageMakerEngine:
    given = Settings(watch="w", name="m", work=str(tmp_path), engine="sagemaker", deploy=("--region", "eu-west-1"))
    return SageMakerEngine(given, deploy)


def test_the_commands_of_an_update(tmp_path: Path) -> None:
    deploy = Deploy("1")
    one = engine(deploy, tmp_path)
    assert one.serving() == ("m-1", None)
    artifact = tmp_path / "artifacts" / "2"
    steps = {
        "load": one.load("2", artifact),
        "shadow": one.shadow("2"),
        "canary 10": one.canary("2", 10.0),
        "promote": one.promote("2"),
        "publish": one.publish("2", artifact),
    }
    assert {name: judge.of_step(name, evidence) for name, evidence in steps.items()} == dict.fromkeys(steps, "")
    assert deploy.commands == ["push", "shadow", "canary", "plan", "register"]
    assert steps["canary 10"]["output"] == "canary done\n"


def test_the_first_version_is_deployed_at_once(tmp_path: Path) -> None:
    deploy = Deploy(None)
    one = engine(deploy, tmp_path)
    assert one.serving() is None
    one.load("1", tmp_path / "artifacts" / "1")
    assert deploy.serves == "1"


def test_a_canary_that_goes_back_fails_its_step_and_is_not_rolled_back_twice(tmp_path: Path) -> None:
    deploy = Deploy("1")
    deploy.fails["canary"] = (1, "the alarm m-faults fired; the endpoint is as before")
    one = engine(deploy, tmp_path)
    with pytest.raises(StepFailed, match=r"container\.deploy canary: deploy: the alarm m-faults fired"):
        one.canary("2", 10.0)
    assert one.withdraw("2") == {"version": "2", "configuration": "m-1"}
    assert "rollback" not in deploy.commands


def test_a_shadow_and_a_promoted_version_are_taken_back(tmp_path: Path) -> None:
    for prepare in ("shadow", "canary"):
        deploy = Deploy("1")
        one = engine(deploy, tmp_path)
        one.shadow("2") if prepare == "shadow" else one.canary("2", 10.0)
        one.withdraw("2")
        assert deploy.commands[-1] == "rollback"
        assert (deploy.serves, deploy.shadow) == ("1", "")


def test_an_endpoint_that_does_not_serve_the_artifact_is_not_promoted(tmp_path: Path) -> None:
    evidence = engine(Deploy("1"), tmp_path).promote("2")
    assert "version before answers again: 1 calls would still change the endpoint" in judge.promotion(evidence)


def test_no_credentials_are_no_decision(tmp_path: Path) -> None:
    deploy = Deploy("1")
    deploy.fails["status"] = (3, "there are no credentials")
    with pytest.raises(Unreachable, match="no credentials"):
        engine(deploy, tmp_path).serving()


def test_output_of_another_kind_is_one_clear_error(tmp_path: Path) -> None:
    given = Settings(watch="w", name="m", work=str(tmp_path), engine="sagemaker")
    with pytest.raises(UpdateError, match="printed no JSON"):
        SageMakerEngine(given, lambda _: (0, "hello", "")).serving()


def test_whole_updates_by_the_commands_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = ("--image", IMAGE, "--role", ROLE, "--instance-type", "ml.c5.large", "--objective-ms", "20")
    given = Settings(watch="w", name="m", work=str(tmp_path), engine="sagemaker", deploy=flags)
    first, second, third = (sample_models.fake(given.artifact(version), version=version) for version in "123")

    def run(arguments: Sequence[str]) -> tuple[int, str, str]:
        lines: list[str] = []
        code = main(arguments, say=lines.append, clock=FakeClock().clock())
        return code, "\n".join(lines), capsys.readouterr().err

    with fake_account(monkeypatch) as account:
        one = SageMakerEngine(given, run)
        assert one.load("1", first)["command"] == "up"
        before = one.serving()
        assert one.load("2", second)["command"] == "push"
        one.shadow("2")
        assert one.withdraw("2")["command"] == "rollback"
        assert one.serving() == before
        one.shadow("2")
        one.canary("2", 10.0)
        assert judge.promotion(one.promote("2")) == ""
        assert "registered" in one.publish("2", second)["output"]
        promoted = one.serving()
        assert promoted != before
        one.load("3", third)
        account.fails = "Auto rollback: alarm slipway-m-errors is in state ALARM"
        with pytest.raises(StepFailed, match="slipway-m-errors is in state ALARM"):
            one.canary("3", 10.0)
        account.fails = ""
        assert "command" not in one.withdraw("3")
        assert one.serving() == promoted
        assert "calls would still change" in judge.promotion(one.promote("3"))
