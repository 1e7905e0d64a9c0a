"""The least-privilege policies: of the caller for the calls of a description, and of the execution role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..defaults import ECR, account_of
from ..description import Description
from ..errors import InvalidDescription
from . import alarms, logs, resources

Statement = dict[str, Any]


def of_caller(description: Description) -> dict[str, Any]:
    """The policy for every command on this description. Raises InvalidDescription without an account."""
    description.require("role", "region", "bucket")
    return _document(_caller(description))


def of_role(description: Description) -> dict[str, Any]:
    """The policy that the execution role needs: to read the model, pull the image, and write logs and metrics."""
    description.require("image", "region", "bucket")
    return _document(_role(description))


def _document(statements: Iterator[Statement]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(sid: str, actions: list[str], where: list[str], **condition: Any) -> Statement:
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": where}
    return {**statement, "Condition": condition["condition"]} if condition else statement


def _arn(description: Description, service: str, what: str) -> str:
    account = account_of(description.role, description.image)
    if account is None:
        raise InvalidDescription("the account is unknown: pass --role with its ARN")
    return f"arn:{_partition(description)}:{service}:{description.region}:{account}:{what}"


def _partition(description: Description) -> str:
    return (description.role or "arn:aws").split(":")[1]


def _caller(description: Description) -> Iterator[Statement]:
    name = description.name
    owned = [_arn(description, "sagemaker", f"{kind}/{name}-*") for kind in ("model", "endpoint-config")]
    endpoint = _arn(description, "sagemaker", f"endpoint/{name}")
    actions = ["CreateModel", "DeleteModel", "CreateEndpointConfig", "DeleteEndpointConfig", "DescribeEndpointConfig"]
    yield _allow("Versions", [f"sagemaker:{one}" for one in (*actions, "AddTags", "ListTags")], owned)
    actions = ["CreateEndpoint", "UpdateEndpoint", "DeleteEndpoint", "DescribeEndpoint"]
    actions.append("InvokeEndpoint" if description.asynchronous is None else "InvokeEndpointAsync")
    if description.serverless is None:
        actions.append("UpdateEndpointWeightsAndCapacities")
    configs = _arn(description, "sagemaker", f"endpoint-config/{name}-*")
    yield _allow("Endpoint", [f"sagemaker:{one}" for one in (*actions, "AddTags", "ListTags")], [endpoint, configs])
    yield _allow("Listing", ["sagemaker:ListModels", "sagemaker:ListEndpointConfigs"], ["*"])
    service = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    yield _allow("Role", ["iam:PassRole"], [str(description.role)], condition=service)
    if description.inference_component:
        yield _component(description, endpoint)
    yield from _storage(description)
    yield from _scaling(description)
    yield from _watching(description)
    yield from _registry(description)
    yield from _image(description)


def _component(description: Description, endpoint: str) -> Statement:
    operations = ("Create", "Update", "Delete", "Describe")
    actions = [f"sagemaker:{one}InferenceComponent" for one in operations]
    actions += ["sagemaker:UpdateInferenceComponentRuntimeConfig", "sagemaker:AddTags"]
    return _allow(
        "Component", actions, [_arn(description, "sagemaker", f"inference-component/{description.name}"), endpoint]
    )


def _storage(description: Description) -> Iterator[Statement]:
    bucket = f"arn:{_partition(description)}:s3:::{description.bucket}"
    yield _allow("Bucket", ["s3:ListBucket", "s3:CreateBucket", "s3:DeleteBucket"], [bucket])
    objects = f"{bucket}/{resources.prefix(description)}*"
    yield _allow("Archives", ["s3:PutObject", "s3:DeleteObject"], [objects])
    registered = f"{bucket}/{resources.registry_prefix(description)}*"
    yield _allow("Registered", ["s3:PutObject", "s3:GetObject"], [registered])
    if description.kms_key is not None:
        actions = ["kms:CreateGrant", "kms:DescribeKey", "kms:GenerateDataKey", "kms:Decrypt"]
        yield _allow("Key", actions, [_key(description)])


def _key(description: Description) -> str:
    key = str(description.kms_key)
    if key.startswith("arn:"):
        return key
    return _arn(description, "kms", key if key.startswith("alias/") else f"key/{key}")


def _scaling(description: Description) -> Iterator[Statement]:
    prefix = "application-autoscaling:"
    reading = ["DescribeScalableTargets", "DescribeScalingPolicies"]
    changing = ["RegisterScalableTarget", "DeregisterScalableTarget", "PutScalingPolicy", "DeleteScalingPolicy"]
    yield _allow("ScalingState", [prefix + one for one in reading], ["*"])
    yield _allow("Scaling", [prefix + one for one in changing], [_arn(description, prefix[:-1], "scalable-target/*")])
    if description.max_instances is not None:
        service = "sagemaker.application-autoscaling.amazonaws.com"
        linked = f"arn:{_partition(description)}:iam::*:role/aws-service-role/{service}/*"
        yield _allow("ScalingRole", ["iam:CreateServiceLinkedRole"], [linked])


def _watching(description: Description) -> Iterator[Statement]:
    group = _arn(description, "logs", f"log-group:{logs.group(description.name)}")
    yield _allow("Logs", ["logs:DescribeLogStreams", "logs:GetLogEvents"], [f"{group}:*"])
    found = [_arn(description, "cloudwatch", f"alarm:{name}") for name in alarms.names(description.name)]
    actions = ["cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms", "cloudwatch:TagResource"]
    yield _allow("Alarms", actions, found)
    yield _allow("AlarmStates", ["cloudwatch:DescribeAlarms"], ["*"])
    if description.price is None and description.serverless is None:
        yield _allow("Prices", ["pricing:GetProducts"], ["*"])


def _image(description: Description) -> Iterator[Statement]:
    """For ``push`` with a local image."""
    image = ECR.match(description.image or "")
    if description.local_image is None or image is None:
        return
    where = f"arn:{_partition(description)}:ecr:{image['region']}:{image['account']}:repository/{image['repository']}"
    actions = ["DescribeRepositories", "CreateRepository", "DescribeImages", "TagResource", "PutImage"]
    actions += ["BatchCheckLayerAvailability", "InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"]
    yield _allow("Image", [f"ecr:{one}" for one in actions], [where])
    yield _allow("RegistryLogin", ["ecr:GetAuthorizationToken"], ["*"])


def _registry(description: Description) -> Iterator[Statement]:
    group = description.group or description.name
    packages = [_arn(description, "sagemaker", f"model-package{end}") for end in (f"-group/{group}", f"/{group}/*")]
    actions = ["CreateModelPackageGroup", "DescribeModelPackageGroup", "CreateModelPackage"]
    actions += ["UpdateModelPackage", "AddTags"]
    yield _allow("Registry", [f"sagemaker:{one}" for one in actions], packages)
    yield _allow("RegistryListing", ["sagemaker:ListModelPackages"], ["*"])


def _role(description: Description) -> Iterator[Statement]:
    where = f"arn:{_partition(description)}:s3:::{description.bucket}"
    models = (resources.prefix(description), resources.registry_prefix(description))
    yield _allow("Model", ["s3:GetObject"], [f"{where}/{folder}*" for folder in models])
    yield _allow("ModelFolder", ["s3:ListBucket"], [where])
    image = ECR.match(description.image or "")
    if image is not None:
        registry = f"arn:{_partition(description)}:ecr:{image['region']}:{image['account']}"
        actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
        yield _allow("Image", actions, [f"{registry}:repository/{image['repository']}"])
        yield _allow("Registry", ["ecr:GetAuthorizationToken"], ["*"])
    group = _arn(description, "logs", f"log-group:{logs.group(description.name)}")
    yield _allow("Logs", ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], [group, f"{group}:*"])
    namespace = {"StringLike": {"cloudwatch:namespace": ["AWS/SageMaker", "/aws/sagemaker/*"]}}
    yield _allow("Metrics", ["cloudwatch:PutMetricData"], ["*"], condition=namespace)
    written = [one for one in (description.capture, description.asynchronous) if one is not None]
    if written:
        folders = [f"arn:{_partition(description)}:s3:::{one.removeprefix('s3://').rstrip('/')}/*" for one in written]
        yield _allow("Results", ["s3:PutObject"] + ["s3:GetObject"] * (description.asynchronous is not None), folders)
    topics = [one for one in (description.success_topic, description.error_topic) if one is not None]
    if topics:
        yield _allow("Topics", ["sns:Publish"], topics)
    if description.kms_key is not None:
        yield _allow("Key", ["kms:Decrypt", "kms:GenerateDataKey"], [_key(description)])
    if description.subnets:
        actions = ["CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface"]
        actions += ["DeleteNetworkInterfacePermission", "DescribeNetworkInterfaces", "DescribeVpcs"]
        actions += ["DescribeDhcpOptions", "DescribeSubnets", "DescribeSecurityGroups"]
        yield _allow("Network", [f"ec2:{one}" for one in actions], ["*"])
