"""``up`` and ``down``: idempotent, resumable after an end at any call, and nothing is left behind after a failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from container.deploy.calls import Call
from tests.fake_account import READING, REGION, FakeAccount
from tests.integration import sample_models
from tests.unit.container.deploy.conftest import BASE, Deploy

INSTANCES = (*BASE, "--instance-type", "ml.c5.large")
SCALING = ("--max-instances", "3", "--scaling-target", "1000")
EMPTY: dict[str, object] = {
    "models": [],
    "configs": [],
    "endpoints": {},
    "components": {},
    "objects": [],
    "scaling": [],
    "policies": [],
    "alarms": [],
}


class Killed(BaseException):
    """The process ends at once: no handler of ours runs."""


def killing(at: int) -> Callable[[Call], None]:
    """Ends before the call number ``at``, counted from 0."""
    count = iter(range(at + 1))

    def observe(_: Call) -> None:
        if next(count) == at:
            raise Killed

    return observe


def ends(deploy: Deploy, *arguments: str | Path) -> list[int]:
    """Runs a command, and returns where a run may end with a difference: before and after each changing call."""
    calls: list[Call] = []
    assert deploy(*(str(one) for one in arguments), observe=calls.append).code == 0
    changing = [place for place, call in enumerate(calls) if not call.operation.startswith(READING)]
    return sorted({place + more for place in changing for more in (0, 1) if place + more < len(calls)})


def test_a_second_run_changes_nothing(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    first = deploy("up", artifact, *INSTANCES, *SCALING)
    assert first.code == 0, first.errors
    assert first.lines[-1] == "in service: digits"
    assert any("endpoint digits: Creating" in line for line in first.lines)
    state, changes = account.state(), list(account.changes)
    assert state["endpoints"] == {"digits": ("InService", state["configs"][0])}
    assert state["scaling"] == ["endpoint/digits/variant/AllTraffic"]
    second = deploy("up", artifact, *INSTANCES, *SCALING)
    assert second.lines == ["in service: digits; nothing had to change"]
    assert (account.state(), account.changes) == (state, changes)
    document = deploy("plan", artifact, *INSTANCES, *SCALING, "--json").document
    assert document["calls"] == []
    assert {one["action"] for one in document["changes"]} == {"nothing"}


def test_down_removes_everything_of_ours_and_nothing_else(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    sagemaker = boto3.client("sagemaker", region_name=REGION)
    sagemaker.create_model(ModelName="digits-0123456789", ExecutionRoleArn=BASE[3])
    assert deploy("up", artifact, *INSTANCES, *SCALING).code == 0
    assert deploy("up", artifact, *INSTANCES, "--name", "digits-two").code == 0
    ran = deploy("down", "digits")
    assert ran.code == 0, ran.errors
    state = account.state()
    assert list(state["endpoints"]) == ["digits-two"]
    assert [name for name in state["models"] if not name.startswith("digits-two-")] == ["digits-0123456789"]
    assert all("/digits-two/" in key for key in state["objects"])
    assert (state["scaling"], state["policies"]) == ([], [])
    assert deploy("down", "digits").lines == ["nothing to remove"]


FLAGS = [SCALING, ("--serverless", "2048"), ("--inference-component", *SCALING)]


@pytest.mark.parametrize("flags", FLAGS, ids=["instances", "serverless", "component"])
def test_killed_at_any_call_up_continues_to_the_same_state(
    deploy: Deploy, account: FakeAccount, artifact: Path, flags: tuple[str, ...]
) -> None:
    every = (*(BASE if "--serverless" in flags else INSTANCES), *flags)
    places = ends(deploy, "up", artifact, *every)
    state = account.state()
    for at in places:
        assert deploy("down", "digits").code == 0
        assert account.state() == EMPTY
        account.remove_buckets()
        with pytest.raises(Killed):
            deploy("up", artifact, *every, observe=killing(at))
        ran = deploy("up", artifact, *every)
        assert ran.code == 0, ran.errors
        assert account.state() == state, f"killed at call {at}"


def test_an_update_killed_at_any_call_continues_to_the_same_state(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    places = ends(deploy, "update", other_artifact, *INSTANCES)
    state = account.state()
    assert deploy("down", "digits").code == 0
    for at in places:
        assert deploy("up", artifact, *INSTANCES).code == 0
        with pytest.raises(Killed):
            deploy("update", other_artifact, *INSTANCES, observe=killing(at))
        assert deploy("update", other_artifact, *INSTANCES).code == 0
        assert account.state() == state, f"killed at call {at}"
        assert deploy("down", "digits").code == 0


def test_down_killed_at_any_call_continues(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    assert deploy("up", artifact, *INSTANCES, *SCALING).code == 0
    places = ends(deploy, "down", "digits")
    for at in places:
        assert deploy("up", artifact, *INSTANCES, *SCALING).code == 0
        with pytest.raises(Killed):
            deploy("down", "digits", observe=killing(at))
        assert deploy("down", "digits").code == 0
        assert account.state() == EMPTY, f"killed at call {at}"


def test_versions_before_the_last_one_are_removed(deploy: Deploy, account: FakeAccount, tmp_path: Path) -> None:
    for version in ("1", "2", "3"):
        made = sample_models.fake(tmp_path / version, name="digits", version=version)
        assert deploy("up", made, *INSTANCES).code == 0
    state = account.state()
    assert [len(state[kind]) for kind in ("models", "configs", "objects")] == [2, 2, 2]


def test_only_the_number_of_instances_changes_in_place(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    before = len(account.changes)
    assert deploy("up", artifact, *INSTANCES, "--instance-count", "3").code == 0
    assert account.changes[before:] == ["UpdateEndpointWeightsAndCapacities"]
    assert deploy("scale", "digits", "--instance-count", "2").lines[-1] == "scaled"
    assert deploy("status", "digits", "--json").document["instances"] == 2
    assert deploy("scale", "digits", *SCALING).code == 0
    assert deploy("status", "digits", "--json").document["scaling"] == [1, 3]


def test_new_tags_are_added_in_place(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    before = len(account.changes)
    assert deploy("up", artifact, *INSTANCES, "--tag", "team=a").code == 0
    assert account.changes[before:] == ["AddTags"]


def test_a_container_that_does_not_start_is_explained_and_removed(
    deploy: Deploy, account: FakeAccount, artifact: Path
) -> None:
    account.fails = "The primary container did not pass the ping health check."
    logs = boto3.client("logs", region_name=REGION)
    group = "/aws/sagemaker/Endpoints/digits"
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="AllTraffic/i-1")
    lines = ["starting", "cannot serve: model.onnx differs from its SHA-256: copy it again", "later"]
    now_ms = int(time.time() * 1_000)
    events = [{"timestamp": now_ms + place, "message": line} for place, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName="AllTraffic/i-1", logEvents=events)
    ran = deploy("up", artifact, *INSTANCES)
    assert ran.code == 10
    assert (
        'first fatal line of the log: "cannot serve: model.onnx differs from its SHA-256: copy it again"' in ran.errors
    )
    assert "container.local check" in ran.errors
    assert "nothing of it was left behind" in ran.errors
    assert account.state() == EMPTY
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_keep_leaves_what_failed_and_the_next_up_replaces_it(
    deploy: Deploy, account: FakeAccount, artifact: Path
) -> None:
    account.fails = "CannotStartContainerError"
    ran = deploy("up", artifact, *INSTANCES, "--keep")
    assert "is kept (--keep)" in ran.errors
    assert account.state()["endpoints"]["digits"][0] == "Failed"
    account.fails = ""
    assert deploy("up", artifact, *INSTANCES).code == 0
    assert account.state()["endpoints"]["digits"][0] == "InService"


def test_a_failed_update_leaves_the_old_version_serving(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    state = account.state()
    account.fails = "The primary container did not pass the ping health check."
    ran = deploy("update", other_artifact, *INSTANCES)
    assert ran.code == 10
    assert "rolled back" in ran.errors
    assert account.state() == state


def test_a_container_that_is_slow_ends_in_a_time_out_and_up_goes_on(
    deploy: Deploy, account: FakeAccount, artifact: Path
) -> None:
    account.looks = 50
    ran = deploy("up", artifact, *INSTANCES, "--timeout-seconds", "100")
    assert ran.code == 7
    assert "still Creating after" in ran.errors
    ran = deploy("up", artifact, *INSTANCES)
    assert ran.code == 0, ran.errors
    assert account.changes.count("CreateEndpoint") == 1


@pytest.mark.parametrize(
    ("operation", "code", "message", "exit_code", "said"),
    [
        ("ListModels", "ExpiredTokenException", "The security token is expired", 3, "log in again"),
        ("DescribeEndpoint", "UnrecognizedClientException", "The security token is invalid", 3, "log in again"),
        (
            "CreateModel",
            "ValidationException",
            "Could not assume role arn:aws:iam::123456789012:role/sagemaker. Please ensure that the role exists",
            4,
            "check --role",
        ),
        (
            "CreateModel",
            "AccessDeniedException",
            "User is not authorized to perform: iam:PassRole on x",
            4,
            "check --role",
        ),
        ("PutObject", "AccessDenied", "Access Denied", 4, "permissions that are needed: policy"),
        ("CreateModel", "ValidationException", "Requested image 1.dkr.ecr/x not found.", 5, "push the image first"),
        ("CreateModel", "ValidationException", "Could not find model data at s3://b/k.", 5, "the model archive exists"),
        (
            "CreateEndpoint",
            "ResourceLimitExceeded",
            "The account-level service limit 'ml.c5.large for endpoint usage' is 0 Instances",
            6,
            "higher quota",
        ),
        (
            "CreateEndpointConfig",
            "ValidationException",
            "Cannot create already existing endpoint configuration",
            8,
            "--name",
        ),
        ("CreateEndpoint", "ThrottlingException", "Rate exceeded", 9, "run the command again"),
        ("CreateModel", "InternalFailure", "Sorry", 1, "Sorry (InternalFailure)"),
    ],
)
def test_every_refusal_is_one_sentence_with_its_exit_code(
    deploy: Deploy,
    account: FakeAccount,
    artifact: Path,
    operation: str,
    code: str,
    message: str,
    exit_code: int,
    said: str,
) -> None:
    account.refuses = {operation: (code, message)}
    ran = deploy("up", artifact, *INSTANCES)
    assert ran.code == exit_code, ran.errors
    assert said in ran.errors
    assert len(ran.errors.splitlines()) == 1
    account.refuses = {}
    assert account.state() == EMPTY, "nothing is left behind"


def test_an_endpoint_of_somebody_else_is_left_alone(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    sagemaker = boto3.client("sagemaker", region_name=REGION)
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=BASE[3])
    variant = {"VariantName": "a", "ModelName": "m", "InstanceType": "ml.c5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="theirs", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="digits", EndpointConfigName="theirs")
    before = list(account.changes)
    for command in (("up", artifact, *INSTANCES), ("down", "digits"), ("plan", artifact, *INSTANCES)):
        ran = deploy(*command)
        assert (ran.code, "choose another --name" in ran.errors) == (8, True)
    assert account.changes == before


def test_a_bucket_that_was_named_must_exist(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    ran = deploy("up", artifact, *INSTANCES, "--bucket", "mine")
    assert (ran.code, "bucket mine does not exist" in ran.errors) == (5, True)
    assert account.changes == []


def test_a_named_bucket_is_found_again_by_down(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    location = {"LocationConstraint": REGION}
    boto3.client("s3", region_name=REGION).create_bucket(Bucket="mine", CreateBucketConfiguration=location)
    assert deploy("up", artifact, *INSTANCES, "--bucket", "mine").code == 0
    assert account.state()["objects"][0].startswith("mine/slipway/digits/")
    assert deploy("down", "digits").code == 0
    assert account.state() == EMPTY


def test_an_endpoint_keeps_its_kind(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    ran = deploy("up", artifact, *BASE, "--serverless", "2048")
    assert (ran.code, "run down first" in ran.errors) == (2, True)


def test_commands_on_nothing_say_so(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    for command in ("status", "invoke", "scale"):
        ran = deploy(command, "digits")
        assert (ran.code, "run up first" in ran.errors) == (5, True), command
    assert deploy("update", artifact, *INSTANCES).code == 5
    assert deploy("logs", "digits").code == 5
