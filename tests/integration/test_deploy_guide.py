"""docs/deploy.md: its commands run in their order: a fake account, a fake cluster, this machine, and into files."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from container.deploy.__main__ import main
from container.deploy.order import Clock
from tests.fake_account import fake_account
from tests.fake_ray import fake_ray
from tests.integration import sample_models
from tests.integration.server_process import ROOT
from tests.unit.container.deploy.test_description import PLAN

PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
OTHERS = ("kubectl", "aws", "build/ray-venv/bin/ray")
"""Programs of the page that need a cluster, an account or an environment of their own."""


def page() -> list[list[str]]:
    """The words of every command line of the page."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def commands(module: str = "container.deploy") -> list[list[str]]:
    """The arguments of the module's commands."""
    return [line[3:] for line in page() if line[:3] == [".venv/bin/python", "-m", module]]


def run(line: list[str], **more: Any) -> int:
    """Run a command, with its output in the file that ``> FILE`` names."""
    if ">" not in line:
        return main(line, say=lambda _: None, **more)
    arguments, (_, target) = line[:-2], line[-2:]
    with Path(target).open("w", encoding="utf-8") as file:
        return main(arguments, say=lambda text: print(text, file=file), **more)


def test_every_command_is_run_here_or_is_another_program_s() -> None:
    loop = commands("container.update")  # test_update.py runs it
    others = sum(any(word in OTHERS for word in line[:2]) for line in page())
    assert len(page()) == len(commands()) + len(loop) + others


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    sample_models.fake(tmp_path / "build" / "digits", name="digits")
    sample_models.fake(tmp_path / "build" / "digits-2", name="digits", version="2")
    (tmp_path / "build" / "digits-train").mkdir()
    (tmp_path / "build" / "digits-train" / "payload.json").write_text('{"instances": [[1, 2, 3, 4]]}')
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))


@pytest.mark.usefixtures("_folder")
def test_the_commands_for_this_machine_run(capsys: pytest.CaptureFixture[str]) -> None:
    local = [line for line in commands() if "local" in line]
    assert len(local) >= 8
    for line in local:
        # The grace of a drain is for load balancers; here it would only be waited out.
        flags = ["--port", "0", "--state", "state", "--env", "SLIPWAY_DRAIN_GRACE_S=0"]
        code = run([*line, *flags])
        assert code == 0, (line, capsys.readouterr().err)


@pytest.mark.usefixtures("_folder")
def test_the_commands_for_ray_run(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in commands() if "ray" in line]
    assert {line[0] for line in lines} >= {"plan", "up", "update", "scale", "status", "invoke", "logs", "down"}
    with fake_ray() as cluster:
        flags = ["--cluster", cluster.url, "--port", cluster.url.rpartition(":")[2]]
        for line in lines:
            assert run([*line, *flags]) == 0, (line, capsys.readouterr().err)
        assert not cluster.applications


@pytest.mark.usefixtures("_folder")
def test_the_commands_for_sagemaker_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    description = re.search(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert description is not None
    waited = iter(range(1_000_000))
    clock = Clock(now=lambda: float(next(waited)), sleep=lambda _: None)
    remote = [line for line in commands() if not {"local", "ray"} & set(line)]
    # The page removes the deployment before it tells of versions and of the registry.
    again = [line for line in remote if line[0] == "up"][:1]
    with fake_account(monkeypatch):
        for line in remote:
            if line[0] != "plan":
                (tmp_path / "deploy.toml").write_text(description[1])
            steps = [*again, line] if line[0] == "shadow" else [line]
            for step in steps:
                assert run(step, clock=clock) == 0, (step, capsys.readouterr().err)
    # What the page hands to kubectl and to CloudFormation is there.
    kinds = {document["kind"] for path in (tmp_path / "build" / "objects").rglob("*.yaml") for document in read(path)}
    assert {"Deployment", "Service", "ServingRuntime", "InferenceService"} <= kinds
    resources = json.loads((tmp_path / "build" / "template.json").read_text())["Resources"]
    assert "AWS::SageMaker::Endpoint" in {one["Type"] for one in resources.values()}


def read(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]
