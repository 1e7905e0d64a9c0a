"""The other commands: request, log, cost, policy, upload; and what every command does without an account."""

from __future__ import annotations

import fnmatch
import json
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from container.deploy import __main__ as program
from container.deploy.calls import Call
from container.deploy.sagemaker import image, logs
from tests.fake_account import IMAGE, REGION, FakeAccount
from tests.unit.container.deploy.conftest import BASE, Deploy

INSTANCES = (*BASE, "--instance-type", "ml.c5.large")


def test_invoke_sends_the_body_and_prints_the_response(
    deploy: Deploy, account: FakeAccount, artifact: Path, tmp_path: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    (tmp_path / "body.json").write_text('{"instances": [[1, 2, 3, 4]]}')
    calls: list[Call] = []
    ran = deploy("invoke", "digits", "--body", tmp_path / "body.json", observe=calls.append)
    assert (ran.code, ran.lines) == (0, ["body"])
    assert calls[-1].parameters["Body"] == b'{"instances": [[1, 2, 3, 4]]}'
    assert "pass --body FILE" in deploy("invoke", "digits").errors
    assert "No such file" in deploy("invoke", "digits", "--body", tmp_path / "missing").errors


def test_an_asynchronous_request_prints_where_the_result_will_be(
    deploy: Deploy, account: FakeAccount, artifact: Path, tmp_path: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES, "--asynchronous", "s3://results/digits").code == 0
    body = tmp_path / "body.json"
    body.write_text("{}")
    assert deploy("invoke", "digits", "--body", body).lines[0].startswith("accepted; the result will be s3://")
    body.write_bytes(b" " * 128_001)
    assert "larger than 128000 bytes" in deploy("invoke", "digits", "--body", body).errors


def test_logs_are_printed_in_order(deploy: Deploy, account: FakeAccount) -> None:
    client = boto3.client("logs", region_name=REGION)
    client.create_log_group(logGroupName=logs.group("digits"))
    now_ms = int(time.time() * 1_000)
    for stream, line in (("a", "first"), ("b", "second")):
        client.create_log_stream(logGroupName=logs.group("digits"), logStreamName=stream)
        events = [{"timestamp": now_ms + ord(stream), "message": line}]
        client.put_log_events(logGroupName=logs.group("digits"), logStreamName=stream, logEvents=events)
    assert deploy("logs", "digits").lines == ["first\nsecond"]
    assert deploy("logs", "digits", "--json", "--lines", "1").document == {"lines": ["second"]}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["a", "x cannot serve: no model", "cannot serve: other"], "cannot serve: no model"),
        (["Traceback (most recent call last):", '  File "x"', "ValueError: bad", "exit"], "ValueError: bad"),
        (["start", "exec /serve: exec format error"], "exec /serve: exec format error"),
        (["one", "last"], "last"),
    ],
)
def test_the_first_fatal_line_is_found(lines: list[str], found: str) -> None:
    assert logs.fatal_of(lines) == found


def test_cost_uses_the_given_price_or_the_price_list(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    ran = deploy("cost", artifact, *INSTANCES, "--price", "0.1", "--instance-count", "2", "--json")
    assert ran.document["per_hour"] == [0.2, 0.2]
    ran = deploy("cost", artifact, *INSTANCES, "--price", "0.1", "--max-instances", "4")
    assert "0.10 to 0.40 for 1 to 4 instances" in ran.text
    product = {"terms": {"OnDemand": {"a": {"priceDimensions": {"b": {"pricePerUnit": {"USD": "0.102"}}}}}}}
    account.prices = [json.dumps(product)]
    assert deploy("cost", artifact, *INSTANCES, "--json").document["price_per_hour"] == 0.102
    account.prices = []
    assert "pass --price" in deploy("cost", artifact, *INSTANCES).errors
    assert "GB-second" in deploy("cost", artifact, *BASE, "--serverless", "1024").errors


def _permitted(policy: dict[str, Any]) -> list[str]:
    return [action for statement in policy["Statement"] for action in statement["Action"]]


ACTIONS = {"ListObjectsV2": "s3:ListBucket", "HeadObject": "s3:GetObject", "GetCallerIdentity": ""}


def action(call: Call) -> str:
    """The IAM action of a call; "" for one that needs none."""
    service = {"sagemaker-runtime": "sagemaker"}.get(call.service, call.service)
    return ACTIONS.get(call.operation, f"{service}:{call.operation}")


@pytest.mark.parametrize(
    "flags",
    [
        ("--instance-type", "ml.c5.large", "--max-instances", "3", "--scaling-target", "100"),
        ("--serverless", "2048"),
        ("--instance-type", "ml.c5.large", "--inference-component"),
        ("--instance-type", "ml.c5.large", "--asynchronous", "s3://results/digits"),
    ],
    ids=["instances", "serverless", "component", "asynchronous"],
)
def test_the_policy_permits_exactly_the_calls_that_are_made(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "body").write_text("{}")
    made: list[Call] = []
    assert deploy("up", artifact, *BASE, *flags, observe=made.append).code == 0
    for command in ("update", "register"):
        deploy(command, other_artifact, *BASE, *flags, observe=made.append)
    for command in ("approve", "status", "logs", "rollback"):
        deploy(command, "digits", observe=made.append)
    deploy("invoke", "digits", "--body", tmp_path / "body", observe=made.append)
    if "--serverless" not in flags:
        deploy("canary", artifact, *BASE, *flags, observe=made.append)
        deploy("cost", artifact, *BASE, *flags, observe=made.append)
        deploy("scale", "digits", "--instance-count", "2", "--copies", "2", observe=made.append)
    assert deploy("down", "digits", observe=made.append).code == 0
    policy = json.loads(deploy("policy", artifact, *BASE, *flags).text)
    permitted = _permitted(policy)
    needed = {action(call) for call in made} - {""}
    assert needed - set(permitted) == set()
    assert not [one for one in permitted if "*" in one]
    by_side_effect = {"sagemaker:AddTags", "iam:PassRole", "iam:CreateServiceLinkedRole", "cloudwatch:TagResource"}
    only_at_times = {"s3:DeleteBucket", "s3:GetObject", "sagemaker:DescribeModelPackage"}
    assert set(permitted) - needed - by_side_effect - only_at_times <= OTHER_KINDS, "more than the calls need"


OTHER_KINDS = {
    # Commands and options that these runs do not reach, each with a test of its own.
    "pricing:GetProducts",
    "sagemaker:UpdateEndpoint",
    "sagemaker:UpdateEndpointWeightsAndCapacities",
    "sagemaker:UpdateInferenceComponentRuntimeConfig",
    "sagemaker:CreateModelPackageGroup",
    "application-autoscaling:RegisterScalableTarget",
    "application-autoscaling:DeregisterScalableTarget",
    "application-autoscaling:PutScalingPolicy",
    "application-autoscaling:DeleteScalingPolicy",
    "cloudwatch:PutMetricAlarm",
    "cloudwatch:DeleteAlarms",
    "logs:GetLogEvents",
}


def test_every_resource_of_the_policy_is_of_this_deployment(deploy: Deploy, artifact: Path) -> None:
    policy = json.loads(deploy("policy", artifact, *INSTANCES, "--kms-key", "alias/k").text)
    lists = ("List", "Describe", "GetProducts")
    for statement in policy["Statement"]:
        if statement["Resource"] == ["*"]:
            assert all(one.partition(":")[2].startswith(lists) for one in statement["Action"]), statement
        else:
            assert all(fnmatch.fnmatch(one, "arn:aws:*") and one != "arn:aws:*" for one in statement["Resource"])
    role = json.loads(deploy("policy", artifact, *INSTANCES, "--for-role", "--capture", "s3://b/k").text)
    assert "s3:GetObject" in _permitted(role)
    assert "ecr:BatchGetImage" in _permitted(role)


def test_push_uploads_the_archive_once(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    ran = deploy("push", artifact, *INSTANCES)
    assert (ran.code, account.changes) == (0, ["CreateBucket", "PutObject"]), ran.errors
    assert deploy("push", artifact, *INSTANCES).lines == ["nothing to upload"]
    assert deploy("up", artifact, *INSTANCES).code == 0
    assert account.changes.count("PutObject") == 1


def test_push_uploads_the_image_unless_the_repository_has_it(
    deploy: Deploy, account: FakeAccount, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []

    def docker(*arguments: str, timeout_s: float = 60) -> str:
        commands.append(arguments)
        if "push" in arguments:
            login = json.loads((Path(arguments[1]) / "config.json").read_text())
            assert list(login["auths"]) == [IMAGE.partition("/")[0]]
        return "[]"

    monkeypatch.setattr(image, "docker", docker)
    ran = deploy("push", artifact, *INSTANCES, "--local-image", "slipway:latest")
    assert ran.code == 0, ran.errors
    assert ("tag", "slipway:latest", IMAGE) in commands
    assert account.changes[0] == "CreateRepository"


@pytest.mark.parametrize("command", ["up", "down", "status", "logs", "push"])
def test_without_credentials_there_is_one_sentence(
    deploy: Deploy, artifact: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    ran = deploy(command, artifact, *INSTANCES)
    assert ran.code == 3
    assert ran.errors.startswith("deploy: there are no AWS credentials")
    assert len(ran.errors.splitlines()) == 1


def test_an_unreachable_service_is_one_sentence(
    deploy: Deploy, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    ran = deploy("plan", artifact, *INSTANCES, "--json")
    assert ran.code == 0
    assert "does not answer" in ran.document["existing"]


def test_no_call_leaves_the_machine(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    import botocore.httpsession

    session = botocore.httpsession.URLLib3Session()
    with pytest.raises(AssertionError, match="a call leaves the machine"):
        session.send(type("Request", (), {"url": "http://127.0.0.1"}))
    assert deploy("up", artifact, *INSTANCES).code == 0


def test_ctrl_c_says_how_to_go_on(deploy: Deploy, account: FakeAccount, artifact: Path) -> None:
    def interrupt(_: Call) -> None:
        raise KeyboardInterrupt

    ran = deploy("up", artifact, *INSTANCES, observe=interrupt)
    assert (ran.code, ran.errors) == (program.INTERRUPTED, "deploy: interrupted; run up again to continue\n")
