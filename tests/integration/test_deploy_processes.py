"""``container.deploy`` for SageMaker as processes, against moto's server: SIGKILL at a call, and the update loop.

moto has no UpdateEndpoint: a killed update, a canary and a shadow are tested in one process, over the fake account.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.moto_api._internal.models import moto_api_backend
from moto.server import ThreadedMotoServer

from container.deploy.__main__ import main
from container.deploy.calls import Call
from container.update import judge
from container.update.sagemaker_engine import SageMakerEngine
from container.update.settings import Settings
from tests.fake_account import IMAGE, READING, REGION, ROLE
from tests.integration import sample_models
from tests.killed_command import KILLED, Commands, commands

pytestmark = pytest.mark.slow

BUCKET = "archives"
FLAGS = ("--image", IMAGE, "--role", ROLE, "--bucket", BUCKET, "--instance-type", "ml.c5.large")


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Commands against an account of their own on 127.0.0.1, which has one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    moto_api_backend.reset()  # servers of one process share their state
    keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": REGION}
    environ = {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in {**environ, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    location = {"LocationConstraint": REGION}
    boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    try:
        with commands() as forked:
            yield forked
    finally:
        server.stop()


def state(name: str) -> dict[str, Any]:
    """What exists of one deployment, with its name and digests left out."""
    sagemaker = boto3.client("sagemaker")
    endpoints = sagemaker.list_endpoints()["Endpoints"]
    found = {
        "models": [one["ModelName"] for one in sagemaker.list_models()["Models"]],
        "configs": [one["EndpointConfigName"] for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
        "endpoints": [f"{one['EndpointName']} {one['EndpointStatus']}" for one in endpoints],
        "objects": [one["Key"] for one in boto3.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])],
    }
    return {
        kind: [re.sub(r"\b[0-9a-f]{10}\b", "DIGEST", one.replace(name, "NAME")) for one in names if name in one]
        for kind, names in found.items()
    }


EMPTY: dict[str, list[str]] = {"models": [], "configs": [], "endpoints": [], "objects": []}


def places(calls: list[Call]) -> list[int]:
    """Where a process may end with a difference: before each changing call, and after the last if more follow."""
    changing = [place for place, call in enumerate(calls) if not call.operation.startswith(READING)]
    return [*changing, *([changing[-1] + 1] if changing[-1] + 1 < len(calls) else [])]


def test_killed_before_a_call_the_next_command_ends_in_the_same_state(processes: Commands, tmp_path: Path) -> None:
    artifact = sample_models.fake(tmp_path / "digits", name="digits")
    calls: list[Call] = []
    assert main(["up", str(artifact), *FLAGS, "--name", "whole"], say=lambda _: None, observe=calls.append) == 0
    wanted, ups = state("whole"), places(calls)
    assert [len(names) for names in wanted.values()] == [1, 1, 1, 1]
    calls.clear()
    assert main(["down", "whole", *FLAGS], say=lambda _: None, observe=calls.append) == 0
    assert state("whole") == EMPTY
    downs = places(calls)
    for number, at in enumerate((ups[0], ups[-1])):
        up = ("up", artifact, *FLAGS, "--name", f"killed{number}")
        assert processes.killed(at, *up) == KILLED
        assert processes.run(up)[0] == 0
        assert state(f"killed{number}") == wanted, f"up killed at call {at}"
    for number, at in enumerate((downs[0], downs[-1])):
        down = ("down", f"killed{number}", *FLAGS)
        assert processes.killed(at, *down) == KILLED
        assert processes.run(down)[0] == 0
        assert state(f"killed{number}") == EMPTY, f"down killed at call {at}"


def test_the_update_loop_runs_the_commands_of_its_steps(processes: Commands, tmp_path: Path) -> None:
    given = Settings(watch="w", name="digits", work=str(tmp_path / "work"), engine="sagemaker", deploy=FLAGS)
    engine = SageMakerEngine(given, processes.run)
    one, two = (sample_models.fake(given.artifact(version), version=version) for version in ("1", "2"))
    assert engine.serving() is None
    assert engine.load("1", one)["command"] == "up"
    serving = engine.serving()
    assert serving is not None
    assert serving[0].startswith("digits-")
    assert judge.promotion(engine.promote("1")) == ""
    assert "registered: arn:aws:sagemaker" in engine.publish("1", one)["output"]
    assert engine.load("2", two)["command"] == "push"
    assert "calls would still change the endpoint" in judge.promotion(engine.promote("2"))
    assert engine.withdraw("2") == {"version": "2", "configuration": serving[0]}
    assert engine.serving() == serving
