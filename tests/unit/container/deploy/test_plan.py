"""``plan``: the calls for every kind of endpoint pass the service's model; what it refuses is refused before."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from container.deploy import service_model
from container.deploy.calls import Call
from container.deploy.errors import InvalidDescription
from tests.fake_account import IMAGE, ROLE, FakeAccount
from tests.integration import sample_models
from tests.unit.container.deploy.conftest import BASE, Deploy

VPC = ("--subnets", "subnet-1,subnet-2", "--security-groups", "sg-1")
SCALING = ("--max-instances", "3", "--scaling-target", "1000")


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, no configuration."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def planned(deploy: Deploy, artifact: Path, *flags: str) -> dict[str, Any]:
    ran = deploy("plan", artifact, *BASE, "--json", *flags)
    assert ran.code == 0, ran.errors
    document: dict[str, Any] = ran.document
    for call in document["calls"]:
        assert service_model.problems(Call(**call)) == []
    return document


def parameters(document: dict[str, Any], operation: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one["parameters"] for one in document["calls"] if one["operation"] == operation)
    return found


def variant(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = parameters(document, "CreateEndpointConfig")["ProductionVariants"][0]
    return found


def test_without_an_account_every_call_is_printed(deploy: Deploy, artifact: Path) -> None:
    document = planned(deploy, artifact, "--engine", "sagemaker", "--instance-type", "ml.c7i.large", *SCALING)
    assert [one["operation"] for one in document["calls"]] == [
        "CreateBucket",
        "PutObject",
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
        "RegisterScalableTarget",
        "PutScalingPolicy",
    ]
    assert document["existing"].startswith("unknown: there are no AWS credentials")
    model = parameters(document, "CreateModel")
    assert model["ExecutionRoleArn"] == ROLE
    assert model["EnableNetworkIsolation"] is True
    assert model["PrimaryContainer"]["Image"] == IMAGE
    assert variant(document)["RoutingConfig"] == {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"}
    assert variant(document)["InstanceType"] == "ml.c7i.large"
    assert document["settings"]["instance_type"] == {"value": "ml.c7i.large", "source": "--instance-type"}


def test_without_an_account_a_canary_is_planned_for_an_endpoint_that_serves_another_model(
    deploy: Deploy, artifact: Path
) -> None:
    flags = ("--for", "canary", "--instance-type", "ml.c5.large", "--objective-ms", "20")
    document = planned(deploy, artifact, *flags)
    assert [one["operation"] for one in document["calls"]] == [
        *["PutMetricAlarm"] * 3,
        *("PutObject", "CreateModel", "CreateEndpointConfig", "UpdateEndpoint"),
    ]
    alarms = parameters(document, "UpdateEndpoint")["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    made = [one["parameters"] for one in document["calls"] if one["operation"] == "PutMetricAlarm"]
    assert [one["AlarmName"] for one in alarms] == [one["AlarmName"] for one in made]
    text = deploy("plan", artifact, *BASE, *flags).text
    assert "the plan is that for an endpoint that serves another model, which it calls IN-SERVICE" in text
    document = planned(deploy, artifact, "--for", "shadow", "--instance-type", "ml.c5.large")
    config = parameters(document, "CreateEndpointConfig")
    assert config["ProductionVariants"][0]["ModelName"] == "IN-SERVICE"
    assert config["ShadowProductionVariants"][0]["ModelName"] == parameters(document, "CreateModel")["ModelName"]


def test_real_time_with_everything(deploy: Deploy, artifact: Path) -> None:
    flags = ("--kms-key", "alias/k", "--capture", "s3://bucket/captured", "--capture-percent", "20", "--volume", "20")
    document = planned(deploy, artifact, *VPC, *flags, "--env", "A=1", "--env", "B=x=y", "--tag", "team=a b")
    config = parameters(document, "CreateEndpointConfig")
    assert config["KmsKeyId"] == "alias/k"
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 20
    assert variant(document)["VolumeSizeInGB"] == 20
    model = parameters(document, "CreateModel")
    assert model["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
    assert model["PrimaryContainer"]["Environment"] == {"A": "1", "B": "x=y"}
    assert {"Key": "team", "Value": "a b"} in model["Tags"]
    assert parameters(document, "PutObject")["SSEKMSKeyId"] == "alias/k"


def test_serverless(deploy: Deploy, artifact: Path) -> None:
    document = planned(deploy, artifact, "--serverless", "2048", "--max-concurrency", "7")
    assert variant(document)["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 7}
    assert "InstanceType" not in variant(document)
    assert parameters(document, "CreateModel")["EnableNetworkIsolation"] is False


def test_asynchronous(deploy: Deploy, artifact: Path) -> None:
    document = planned(deploy, artifact, "--asynchronous", "s3://bucket/results")
    config = parameters(document, "CreateEndpointConfig")["AsyncInferenceConfig"]
    assert config["OutputConfig"] == {"S3OutputPath": "s3://bucket/results"}
    assert config["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 8}


def test_multi_model(deploy: Deploy, tmp_path: Path) -> None:
    for name in ("a", "b"):
        sample_models.fake(tmp_path / "models" / name, name=name)
    document = planned(deploy, tmp_path / "models", "--multi-model")
    container = parameters(document, "CreateModel")["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    keys = [one["parameters"]["Key"] for one in document["calls"] if one["operation"] == "PutObject"]
    assert [f"s3://sagemaker-eu-central-1-123456789012/{key}" for key in keys] == [
        container["ModelDataUrl"] + "a.tar.gz",
        container["ModelDataUrl"] + "b.tar.gz",
    ]


def test_inference_component(deploy: Deploy, artifact: Path) -> None:
    document = planned(deploy, artifact, "--inference-component", "--copies", "2", *VPC)
    assert "ModelName" not in variant(document)
    assert parameters(document, "CreateEndpointConfig")["ExecutionRoleArn"] == ROLE
    component = parameters(document, "CreateInferenceComponent")
    assert component["RuntimeConfig"] == {"CopyCount": 2}
    assert component["Specification"]["ComputeResourceRequirements"]["NumberOfCpuCoresRequired"] == 1.0


def test_gpu_instances_get_a_host_image_with_a_new_driver(deploy: Deploy, artifact: Path) -> None:
    document = planned(deploy, artifact, "--instance-type", "ml.g5.xlarge")
    assert variant(document)["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"


def test_a_remote_model_is_not_uploaded(deploy: Deploy) -> None:
    ran = deploy("plan", "s3://bucket/digits/model.tar.gz", *BASE, "--json", "--name", "digits")
    assert ran.code == 0
    assert ran.document["calls"][0]["operation"] == "CreateModel"
    assert (
        parameters(ran.document, "CreateModel")["PrimaryContainer"]["ModelDataUrl"] == "s3://bucket/digits/model.tar.gz"
    )


def test_a_plan_for_people_has_commands_that_a_shell_reads(deploy: Deploy, artifact: Path) -> None:
    lines = deploy("plan", artifact, *BASE, "--env", "A=it's").lines[0].splitlines()
    command = next(shlex.split(line) for line in lines if line.startswith("aws sagemaker create-model "))
    assert command[command.index("--model-name") + 1].startswith("digits-")
    assert "--enable-network-isolation" in command
    assert '"A": "it\'s"' in command[command.index("--primary-container") + 1]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--serverless", "2000"), "steps of 1024"),
        (("--serverless", "2048", "--instance-type", "ml.c5.large"), "leave out --instance-type"),
        (("--serverless", "2048", *VPC), "cannot be in a VPC"),
        (("--serverless", "2048", "--network-isolation"), "no network isolation"),
        (("--serverless", "2048", "--capture", "s3://b/k"), "no data capture"),
        (("--serverless", "2048", "--multi-model"), "a multi-model endpoint takes a folder"),
        (("--serverless", "2048", "--asynchronous", "s3://b/k"), "no asynchronous inference"),
        (("--serverless", "2048", "--inference-component"), "need instances"),
        (("--serverless", "2048", "--max-concurrency", "201"), "takes 1 to 200"),
        (("--serverless", "2048", "--provisioned-concurrency", "6"), "is larger than --max-concurrency"),
        (("--serverless", "2048", *SCALING), "scales by itself"),
        (("--provisioned-concurrency", "2"), "pass --serverless too"),
        (("--subnets", "subnet-1"), "both --subnets and --security-groups"),
        (("--instance-count", "0"), "at least one instance"),
        (("--instance-type", "ml.g5.xlarge", "--kms-key", "k"), "takes no key"),
        (("--instance-type", "ml.c5d.xlarge", "--volume", "10"), "local disk of fixed size"),
        (("--instance-type", "ml.c5.large", "--inference-ami", "al2-ami-sagemaker-inference-gpu-2"), "accelerators"),
        (("--max-instances", "3"), "needs a target"),
        (("--instance-count", "5", *SCALING), "outside of"),
        (("--min-instances", "4", *SCALING), "larger than --max-instances"),
        (("--tag", "slipway:x=1"), "reserved"),
        (("--name", "a_b"), "letters, digits"),
        (("--role", "sagemaker"), "not the ARN of a role"),
        (("--success-topic", "arn:aws:sns:eu-central-1:123456789012:t"), "pass --asynchronous too"),
        (("--instance-type", "ml.c5.lage"), "'ml.c5.lage'; the service takes one of ml.c5.large"),
        (("--inference-ami", "ami-1", "--instance-type", "ml.g5.xlarge"), "InferenceAmiVersion"),
        (("--asynchronous", "results"), "S3OutputPath"),
        (("--startup-timeout", "30"), "valid min value: 60"),
        (("--env", "1=x"), "Environment"),
        (("--env", "novalue"), "NAME=VALUE"),
        (("--image", "has a space"), "Image"),
    ],
)
def test_what_the_service_refuses_is_refused_in_one_sentence(
    deploy: Deploy, artifact: Path, flags: tuple[str, ...], said: str
) -> None:
    ran = deploy("plan", artifact, *BASE, *flags)
    assert ran.code == 2
    assert said in ran.errors
    assert all(line.startswith("deploy: ") for line in ran.errors.splitlines())


@pytest.mark.parametrize("arguments", [("--image", IMAGE), ("--role", ROLE)])
def test_what_is_missing_is_named(deploy: Deploy, artifact: Path, arguments: tuple[str, ...]) -> None:
    ran = deploy("plan", artifact, *arguments)
    assert ran.code == 2
    assert "is missing: pass it, or write" in ran.errors


def test_a_missing_or_broken_artifact_is_refused(deploy: Deploy, artifact: Path, tmp_path: Path) -> None:
    assert "no such file" in deploy("plan", tmp_path / "nothing", *BASE).errors
    (artifact / "model.json").unlink()
    assert "which is not in" in deploy("plan", artifact, *BASE).errors
    assert deploy("plan", *BASE).code == 2


def test_equal_content_has_equal_names_and_other_content_others(
    deploy: Deploy, artifact: Path, other_artifact: Path
) -> None:
    first = planned(deploy, artifact)["calls"]
    assert planned(deploy, artifact)["calls"] == first
    other = planned(deploy, other_artifact)
    assert parameters(other, "CreateModel")["ModelName"] != first[2]["parameters"]["ModelName"]


def test_an_empty_account_is_known_to_be_empty(deploy: Deploy, artifact: Path, account: FakeAccount) -> None:
    document = planned(deploy, artifact)
    assert document["existing"] == "known"
    assert {one["action"] for one in document["changes"]} == {"create"}
    assert account.changes == []


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (Call("sagemaker", "CreateEndpoint", {"EndpointName": "a"}), "EndpointConfigName"),
        (Call("sagemaker", "CreateEndpoint", {"EndpointName": "a", "EndpointConfigName": "b", "X": 1}), "X"),
        (Call("sagemaker", "CreateEndpoint", {"EndpointName": "a" * 64, "EndpointConfigName": "b"}), "64 characters"),
        (
            Call(
                "sagemaker",
                "CreateEndpoint",
                {"EndpointName": "a", "EndpointConfigName": "b", "Tags": [{"Key": "?", "Value": ""}]},
            ),
            "Tags",
        ),
        (Call("s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": 1}), "Body"),
    ],
)
def test_the_service_model_refuses_wrong_calls(call: Call, problem: str) -> None:
    assert problem in "\n".join(service_model.problems(call))


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(InvalidDescription, match="knows no sagemaker CreateNothing"):
        service_model.check([Call("sagemaker", "CreateNothing", {})])
