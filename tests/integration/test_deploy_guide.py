"""docs/deploy.md: its commands run in their order, against a fake account, a fake cluster and this machine."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from container.deploy.__main__ import main
from container.deploy.order import Clock
from tests.fake_account import fake_account
from tests.fake_ray import fake_ray
from tests.integration import sample_models
from tests.integration.server_process import ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
PLAN = {
    "schema": "slipway.bench.plan/1",
    "capacity_per_s": 120.0,
    "safety_factor": 0.5,
    "binds": "load rises",
    "instances": 4,
    "target_per_instance": 3600,
    "price_per_hour": 0.1,
}


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[3:] for line in words if line[:3] == [".venv/bin/python", "-m", "container.deploy"]]


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
        code = main([*line, *flags], say=lambda _: None)
        assert code == 0, (line, capsys.readouterr().err)


@pytest.mark.usefixtures("_folder")
def test_the_commands_for_ray_run(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in commands() if "ray" in line]
    assert {line[0] for line in lines} >= {"plan", "up", "update", "scale", "status", "invoke", "logs", "down"}
    with fake_ray() as cluster:
        flags = ["--cluster", cluster.url, "--port", cluster.url.rpartition(":")[2]]
        for line in lines:
            assert main([*line, *flags], say=lambda _: None) == 0, (line, capsys.readouterr().err)
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
                assert main(step, say=lambda _: None, clock=clock) == 0, (step, capsys.readouterr().err)
