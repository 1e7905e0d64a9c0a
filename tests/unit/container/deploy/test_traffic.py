"""Canary, shadow, rollback, and the model registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest

from container.deploy import service_model
from container.deploy.calls import Call
from tests.fake_account import REGION, FakeAccount
from tests.integration import sample_models
from tests.unit.container.deploy.conftest import BASE, Deploy

INSTANCES = (*BASE, "--instance-type", "ml.c5.large", "--objective-ms", "20")


def sent(calls: list[Call], operation: str) -> list[Call]:
    return [call for call in calls if call.operation == operation]


def variants(account: FakeAccount, name: str) -> dict[str, Any]:
    return account.configs[name]


def test_a_canary_shifts_traffic_under_alarms(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    calls: list[Call] = []
    ran = deploy("canary", other_artifact, *INSTANCES, "--canary-percent", "20", observe=calls.append)
    assert ran.code == 0, ran.errors
    deployment = sent(calls, "UpdateEndpoint")[0].parameters["DeploymentConfig"]
    routing = deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing == {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 600,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 20},
    }
    names = [one["AlarmName"] for one in deployment["AutoRollbackConfiguration"]["Alarms"]]
    assert names == account.state()["alarms"] or sorted(names) == account.state()["alarms"]
    latency = next(one for one in sent(calls, "PutMetricAlarm") if one.parameters["AlarmName"].endswith("latency"))
    assert latency.parameters["Threshold"] == 20_000, "the metric is in microseconds"
    assert all(service_model.problems(call) == [] for call in calls)
    changes = len(account.changes)
    again = deploy("canary", other_artifact, *INSTANCES)
    assert again.lines[-1].endswith("nothing had to change")
    assert len(account.changes) == changes
    assert deploy("down", "digits").code == 0
    assert account.state()["alarms"] == []


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_the_plan_of_a_canary_or_a_shadow_has_the_calls_that_it_makes(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path, kind: str
) -> None:
    ran = deploy("plan", other_artifact, *INSTANCES, "--for", kind)
    assert (ran.code, "run up first" in ran.errors) == (5, True)
    assert deploy("up", artifact, *INSTANCES).code == 0
    changes = len(account.changes)
    document = deploy("plan", other_artifact, *INSTANCES, "--for", kind, "--json").document
    assert len(account.changes) == changes
    calls: list[Call] = []
    assert deploy(kind, other_artifact, *INSTANCES, observe=calls.append).code == 0
    made = [call.to_json() for call in calls if call.operation in account.changes[changes:]]
    assert document["calls"] == made


def test_an_endpoint_with_several_variants_is_refused_and_can_be_removed(
    deploy: Deploy, account: FakeAccount, artifact: Path
) -> None:
    sagemaker = boto3.client("sagemaker", region_name=REGION)
    sagemaker.create_model(ModelName="m", ExecutionRoleArn=BASE[3])
    shared = {"ModelName": "m", "InstanceType": "ml.c5.large", "InitialInstanceCount": 1}
    both = [{"VariantName": name, "InitialVariantWeight": 1.0, **shared} for name in ("a", "b")]
    tags = [{"Key": "slipway:deployment", "Value": "digits"}]
    sagemaker.create_endpoint_config(EndpointConfigName="two", ProductionVariants=both)
    sagemaker.create_endpoint(EndpointName="digits", EndpointConfigName="two", Tags=tags)
    for command in (("up", artifact, *INSTANCES), ("status", "digits"), ("canary", artifact, *INSTANCES)):
        ran = deploy(*command)
        assert (ran.code, "has 2 production variants" in ran.errors) == (2, True), (command, ran.errors)
    assert deploy("down", "digits").code == 0
    assert account.state()["endpoints"] == {}


def test_a_canary_that_is_rolled_back_fails_and_the_old_version_serves(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    before = account.state()
    account.fails = "Auto rollback: alarm slipway-digits-errors is in state ALARM"
    ran = deploy("canary", other_artifact, *INSTANCES)
    assert ran.code == 10
    assert "slipway-digits-errors is in state ALARM" in ran.errors
    assert "the alarms stopped it" in ran.errors
    assert {**account.state(), "alarms": []} == before


def test_a_shadow_gets_copies_and_an_update_or_a_rollback_ends_it(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    serving = account.state()["models"]
    first = account.state()["endpoints"]["digits"][1]
    ran = deploy("shadow", other_artifact, *INSTANCES, "--shadow-percent", "50")
    assert ran.code == 0, ran.errors
    config = variants(account, account.state()["endpoints"]["digits"][1])
    assert [one["ModelName"] for one in config["ProductionVariants"]] == serving
    assert config["ShadowProductionVariants"][0]["InitialVariantWeight"] == 0.5
    assert config["ShadowProductionVariants"][0]["ModelName"] not in serving
    assert deploy("status", "digits", "--json").document["shadow"] is True
    assert deploy("shadow", other_artifact, *INSTANCES, "--shadow-percent", "50").lines == ["nothing had to change"]
    assert deploy("rollback", "digits").code == 0
    assert account.state()["endpoints"]["digits"][1] == first
    assert deploy("update", other_artifact, *INSTANCES).code == 0
    assert deploy("status", "digits", "--json").document["shadow"] is False


def test_rollback_returns_to_the_version_before(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    first = account.state()["endpoints"]["digits"][1]
    ran = deploy("rollback", "digits")
    assert (ran.code, "no version before" in ran.errors) == (5, True)
    assert deploy("update", other_artifact, *INSTANCES).code == 0
    assert deploy("rollback", "digits").code == 0
    assert account.state()["endpoints"]["digits"] == ("InService", first)


def test_a_component_is_updated_and_rolled_back(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    flags = (*INSTANCES, "--inference-component")
    assert deploy("up", artifact, *flags).code == 0
    first = account.state()["components"]["digits"]
    assert deploy("update", other_artifact, *flags).code == 0
    assert account.state()["components"]["digits"] != first
    ran = deploy("rollback", "digits")
    assert ran.code == 0, ran.errors
    assert account.state()["components"]["digits"] == first


@pytest.mark.parametrize(
    ("command", "flags", "said"),
    [
        ("canary", ("--serverless", "2048"), "no canary: use update"),
        ("shadow", ("--serverless", "2048"), "no shadow: use update"),
        ("shadow", ("--asynchronous", "s3://b/k"), "have no shadow"),
        ("canary", ("--inference-component",), "no canary of its variant"),
        ("canary", ("--instance-type", "ml.inf1.xlarge"), "Inf1"),
    ],
)
def test_what_has_no_guardrails_is_refused(
    deploy: Deploy, account: FakeAccount, artifact: Path, command: str, flags: tuple[str, ...], said: str
) -> None:
    ran = deploy(command, artifact, *BASE, *flags)
    assert (ran.code, said in ran.errors) == (2, True), ran.errors
    assert account.changes == []


@pytest.mark.parametrize("flags", [("--canary-percent", "51"), ("--canary-minutes", "61"), ("--canary-percent", "0")])
def test_a_canary_has_bounds(deploy: Deploy, account: FakeAccount, artifact: Path, flags: tuple[str, ...]) -> None:
    assert deploy("up", artifact, *INSTANCES).code == 0
    other = sample_models.fake(artifact.parent / "other", name="digits", version="9")
    assert deploy("canary", other, *INSTANCES, *flags).code == 2


def test_one_version_for_each_artifact_with_its_evidence(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    ran = deploy("register", artifact, *INSTANCES, "--candidates", str(other_artifact))
    assert ran.code == 0, ran.errors
    sagemaker = boto3.client("sagemaker", region_name=REGION)
    found = sagemaker.list_model_packages(ModelPackageGroupName="digits")["ModelPackageSummaryList"]
    assert [one["ModelApprovalStatus"] for one in found] == ["PendingManualApproval"]
    package = sagemaker.describe_model_package(ModelPackageName=found[0]["ModelPackageArn"])
    assert [one["Name"] for one in package["AdditionalInferenceSpecifications"]] == ["digits-2"]
    uri = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    quality = json.loads(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    assert quality["digests"].keys() == {"model.json"}
    changes = len(account.changes)
    assert deploy("register", artifact, *INSTANCES).lines[0].startswith("registered already")
    assert len(account.changes) == changes


def test_only_an_approved_version_is_deployed(
    deploy: Deploy, account: FakeAccount, artifact: Path, other_artifact: Path
) -> None:
    from_registry = (*BASE[2:], "--instance-type", "ml.c5.large", "--group", "digits", "--from-registry")
    assert "no approved version" in deploy("up", *from_registry).errors
    assert deploy("register", artifact, *INSTANCES).code == 0
    assert deploy("up", *from_registry).code == 5
    assert deploy("approve", "digits", "--reason", "looked at").lines[0].startswith("Approved")
    ran = deploy("up", *from_registry)
    assert ran.code == 0, ran.errors
    first = account.state()["endpoints"]
    assert deploy("up", *from_registry).lines[-1].endswith("nothing had to change")
    assert deploy("register", other_artifact, *INSTANCES).code == 0
    assert deploy("up", *from_registry).lines[-1].endswith("nothing had to change"), "the newest is not approved"
    assert deploy("approve", "digits", "--version", "2").code == 0
    assert deploy("up", *from_registry).code == 0
    assert account.state()["endpoints"] != first
    assert deploy("approve", "digits", "--version", "2", "--reject").lines[0].startswith("Rejected")
    assert deploy("approve", "digits", "--version", "7").code == 5


def test_the_registry_takes_only_what_has_evidence(deploy: Deploy, account: FakeAccount, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "model.onnx").write_bytes(b"x")
    ran = deploy("register", tmp_path / "bare", *INSTANCES)
    assert (ran.code, "takes an artifact of optimize" in ran.errors) == (2, True)
