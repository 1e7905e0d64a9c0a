"""``template``: the CloudFormation template of every kind of endpoint passes cfn-lint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint

from tests.fake_account import REGION
from tests.unit.container.deploy.conftest import BASE, Deploy

SCALING = ("--max-instances", "3", "--scaling-target", "600")
KINDS = {
    "real-time": (),
    "scaled": SCALING,
    "serverless": ("--serverless", "2048", "--provisioned-concurrency", "2"),
    "asynchronous": ("--asynchronous", "s3://bucket/results"),
    "component": ("--inference-component", *SCALING),
    "everything": (
        *("--kms-key", "alias/k", "--capture", "s3://bucket/captured", "--subnets", "subnet-12345678"),
        *("--security-groups", "sg-12345678", "--tag", "team=search", "--env", "A=1", "--volume", "20"),
    ),
}


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No account: a template asks nothing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def made(deploy: Deploy, artifact: Path, *flags: str) -> dict[str, Any]:
    sent: list[Any] = []
    ran = deploy("template", artifact, *BASE, *flags, observe=sent.append)
    assert ran.code == 0, ran.errors
    assert sent == []
    document: dict[str, Any] = ran.document
    return document


def findings(document: dict[str, Any]) -> list[str]:
    """Errors and warnings."""
    return [str(one) for one in lint(json.dumps(document), config=ManualArgs(regions=[REGION]))]


@pytest.mark.filterwarnings("ignore")  # of the linter's own machinery
@pytest.mark.parametrize("kind", KINDS)
def test_the_template_passes_the_linter(kind: str, deploy: Deploy, artifact: Path) -> None:
    document = made(deploy, artifact, *KINDS[kind])
    assert findings(document) == []


@pytest.mark.filterwarnings("ignore")
def test_the_linter_sees_a_wrong_template(deploy: Deploy, artifact: Path) -> None:
    document = made(deploy, artifact)
    document["Resources"]["EndpointConfiguration"]["Properties"]["ProductionVariants"][0]["InstanceCount"] = 1
    assert any(one.startswith("[E") for one in findings(document))


def test_it_has_the_parameters_of_the_plan(deploy: Deploy, artifact: Path) -> None:
    resources = made(deploy, artifact, *SCALING)["Resources"]
    planned = deploy("plan", artifact, *BASE, *SCALING, "--json").document["calls"]
    calls = {call["operation"]: call["parameters"] for call in planned}
    assert resources["Model"]["Properties"] == calls["CreateModel"]
    config = resources["EndpointConfiguration"]["Properties"]
    assert config["EndpointConfigName"] == calls["CreateEndpointConfig"]["EndpointConfigName"]
    variant = {**config["ProductionVariants"][0], "ModelName": calls["CreateModel"]["ModelName"]}
    assert [variant] == calls["CreateEndpointConfig"]["ProductionVariants"]
    assert resources["ScalableTarget"]["Properties"] == calls["RegisterScalableTarget"]
    assert resources["Endpoint"]["Properties"]["RetainAllVariantProperties"] is True


def test_an_update_is_watched_by_the_alarms(deploy: Deploy, artifact: Path) -> None:
    resources = made(deploy, artifact)["Resources"]
    rollback = resources["Endpoint"]["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]
    named = [one["AlarmName"]["Ref"] for one in rollback["Alarms"]]
    assert {"ErrorsAlarm", "ShedAlarm"} <= set(named)
    assert all(resources[name]["Type"] == "AWS::CloudWatch::Alarm" for name in named)
    assert (
        "DeploymentConfig" not in made(deploy, artifact, "--serverless", "2048")["Resources"]["Endpoint"]["Properties"]
    )


def test_it_says_what_must_be_uploaded_before(deploy: Deploy, artifact: Path) -> None:
    notes = made(deploy, artifact)["Metadata"]["Slipway"]
    assert len(notes["UploadBefore"]) == 1
    assert notes["UploadBefore"][0].endswith("/model.tar.gz")
    assert notes["Sources"]["image"] == "--image"


def test_an_incomplete_description_is_one_sentence(deploy: Deploy, artifact: Path) -> None:
    ran = deploy("template", artifact)
    assert ran.code == 2
    assert ran.errors == "deploy: --image is missing: pass it, or write image = ... into deploy.toml\n"
