"""The resources of a deployment on SageMaker, as the calls that create them.

Names of models and endpoint configurations end with a digest of their content. The same description gives the same
names, so a resource that exists under its name needs no comparison, and a run that was interrupted continues.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..calls import BODY, DIGEST_CHARACTERS, Call, digest_of
from ..description import Description
from ..model_source import ARCHIVE_ENDING, ModelFile, ModelSource

TAG = "slipway:deployment"
DATA = "slipway:data"
"""Tag of a model: bucket and folder of its archive, the folder below the prefix of the deployment."""

VARIANT = "AllTraffic"
SHADOW = "Shadow"
POLICY = "slipway-invocations"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
COPIES_DIMENSION = "sagemaker:inference-component:DesiredCopyCount"
CSV_TYPES, JSON_TYPES = ["text/csv"], ["application/json", "application/jsonlines"]


@dataclass(frozen=True, slots=True)
class Upload:
    """One object of a bucket and the call that writes it."""

    bucket: str
    key: str
    put: Call


def tags(description: Description) -> list[dict[str, str]]:
    """Our tag and the user's, as SageMaker and CloudWatch take them."""
    return [{"Key": key, "Value": value} for key, value in {TAG: description.name, **description.tags}.items()]


def owned_name(deployment: str, name: str) -> bool:
    """Whether a name has the form of the models and configurations of this deployment."""
    return re.fullmatch(rf"{re.escape(deployment)}-[0-9a-f]{{{DIGEST_CHARACTERS}}}", name) is not None


def prefix(description: Description) -> str:
    """The folder of the deployment in its bucket, with a slash at the end."""
    return f"slipway/{description.name}/"


def registry_prefix(description: Description) -> str:
    """The folder of registered archives and evidence. ``down`` keeps it, because versions outlive deployments."""
    return f"slipway-registry/{description.group}/"


def uploads(description: Description, source: ModelSource) -> list[Upload]:
    """The objects that must exist before the model is created, none for a remote source."""
    return [_upload(description, _key(description, source, name), one) for name, one in source.files.items()]


def folder(source: ModelSource) -> str:
    """The folder of the archives of a source, below the prefix of the deployment."""
    return source.digest[:DIGEST_CHARACTERS]


def _key(description: Description, source: ModelSource, name: str) -> str:
    return f"{prefix(description)}{folder(source)}/" + (f"{name}{ARCHIVE_ENDING}" if name else BODY)


def _upload(description: Description, key: str, model: ModelFile) -> Upload:
    assert description.bucket is not None
    encryption = {}
    if description.kms_key is not None:
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": description.kms_key}
    body = str(model.path) if model.path.is_file() else BODY
    parameters = {"Bucket": description.bucket, "Key": key, "Body": body, **encryption}
    return Upload(description.bucket, key, Call("s3", "PutObject", parameters, upload=model))


def model_url(description: Description, source: ModelSource) -> str:
    """ModelDataUrl: an archive, or the folder of a multi-model endpoint."""
    if source.remote is not None:
        return source.remote
    where = f"s3://{description.bucket}/{prefix(description)}{folder(source)}/"
    return where if description.multi_model else where + BODY


def model(description: Description, source: ModelSource) -> Call:
    """CreateModel."""
    container: dict[str, Any] = {"Image": description.image, "ModelDataUrl": model_url(description, source)}
    if description.environment:
        container["Environment"] = dict(description.environment)
    if description.multi_model:
        container["Mode"] = "MultiModel"
    return model_of(description, container, f"{description.bucket}/{folder(source)}" if source.files else "")


def model_of(description: Description, container: Mapping[str, Any], data: str = "") -> Call:
    """CreateModel of one container, named by its content. ``data``: bucket and folder of its archive."""
    # A model package is named in Containers; an image stands in PrimaryContainer.
    packaged = "ModelPackageName" in container
    content: dict[str, Any] = {
        "ExecutionRoleArn": description.role,
        **({"Containers": [dict(container)]} if packaged else {"PrimaryContainer": dict(container)}),
        "EnableNetworkIsolation": description.network_isolation,
    }
    if description.subnets:
        content["VpcConfig"] = _vpc(description)
    name = f"{description.name}-{digest_of(content)}"
    marks = [*tags(description), *([{"Key": DATA, "Value": data}] if data else [])]
    return Call("sagemaker", "CreateModel", {"ModelName": name, **content, "Tags": marks})


def _vpc(description: Description) -> dict[str, list[str]]:
    return {"SecurityGroupIds": list(description.security_groups), "Subnets": list(description.subnets)}


def endpoint_config(description: Description, model_name: str, shadow_model: str | None = None) -> Call:
    """CreateEndpointConfig. ``shadow_model``: a second model that gets copies of the requests."""
    content: dict[str, Any] = {"ProductionVariants": [_variant(description, model_name)]}
    if description.inference_component:
        content["ExecutionRoleArn"] = description.role
        content["EnableNetworkIsolation"] = description.network_isolation
        if description.subnets:
            content["VpcConfig"] = _vpc(description)
    if shadow_model is not None:
        weight = description.shadow_percent / 100
        shadow = _variant(description, shadow_model) | {"VariantName": SHADOW, "InitialVariantWeight": weight}
        content["ShadowProductionVariants"] = [shadow]
    if description.capture is not None:
        content["DataCaptureConfig"] = _capture(description)
    if description.asynchronous is not None:
        content["AsyncInferenceConfig"] = _asynchronous(description)
    if description.kms_key is not None:
        content["KmsKeyId"] = description.kms_key
    name = f"{description.name}-{digest_of(_without_count(content))}"
    parameters = {"EndpointConfigName": name, **content, "Tags": tags(description)}
    return Call("sagemaker", "CreateEndpointConfig", parameters)


def _without_count(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content without the number of instances, which changes on an endpoint in service."""
    variants = [{**one, "InitialInstanceCount": 0} for one in content["ProductionVariants"]]
    return {**content, "ProductionVariants": variants}


def _variant(description: Description, model_name: str) -> dict[str, Any]:
    variant: dict[str, Any] = {"VariantName": VARIANT, "InitialVariantWeight": 1.0}
    if not description.inference_component:
        variant["ModelName"] = model_name
    if description.serverless is not None:
        serverless = {"MemorySizeInMB": description.serverless, "MaxConcurrency": description.max_concurrency}
        if description.provisioned_concurrency is not None:
            serverless["ProvisionedConcurrency"] = description.provisioned_concurrency
        return {**variant, "ServerlessConfig": serverless}
    optional = {
        "VolumeSizeInGB": description.volume,
        "ModelDataDownloadTimeoutInSeconds": description.download_timeout,
        "ContainerStartupHealthCheckTimeoutInSeconds": description.startup_timeout,
        "InferenceAmiVersion": description.inference_ami,
    }
    if description.inference_component:
        del optional["ModelDataDownloadTimeoutInSeconds"], optional["ContainerStartupHealthCheckTimeoutInSeconds"]
    return {
        **variant,
        "InstanceType": description.instance_type,
        "InitialInstanceCount": description.instance_count,
        "RoutingConfig": {"RoutingStrategy": description.routing},
        **{name: value for name, value in optional.items() if value is not None},
    }


def _capture(description: Description) -> dict[str, Any]:
    capture: dict[str, Any] = {
        "EnableCapture": True,
        "InitialSamplingPercentage": description.capture_percent,
        "DestinationS3Uri": description.capture,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"CsvContentTypes": CSV_TYPES, "JsonContentTypes": JSON_TYPES},
    }
    return capture if description.kms_key is None else {**capture, "KmsKeyId": description.kms_key}


def _asynchronous(description: Description) -> dict[str, Any]:
    output: dict[str, Any] = {"S3OutputPath": description.asynchronous}
    if description.kms_key is not None:
        output["KmsKeyId"] = description.kms_key
    topics = {"SuccessTopic": description.success_topic, "ErrorTopic": description.error_topic}
    chosen = {name: topic for name, topic in topics.items() if topic is not None}
    if chosen:
        output["NotificationConfig"] = chosen
    config: dict[str, Any] = {"OutputConfig": output}
    if description.asynchronous_concurrency is not None:
        config["ClientConfig"] = {"MaxConcurrentInvocationsPerInstance": description.asynchronous_concurrency}
    return config


def endpoint(description: Description, config_name: str) -> Call:
    """CreateEndpoint."""
    parameters = {"EndpointName": description.name, "EndpointConfigName": config_name, "Tags": tags(description)}
    return Call("sagemaker", "CreateEndpoint", parameters)


def endpoint_update(description: Description, config_name: str, deployment: Mapping[str, Any] | None = None) -> Call:
    """UpdateEndpoint. With auto scaling the number of instances stays as it is. ``deployment``: DeploymentConfig."""
    parameters: dict[str, Any] = {"EndpointName": description.name, "EndpointConfigName": config_name}
    if description.max_instances is not None:
        parameters["RetainAllVariantProperties"] = True
    if deployment is not None:
        parameters["DeploymentConfig"] = dict(deployment)
    return Call("sagemaker", "UpdateEndpoint", parameters)


def instance_count(description: Description, count: int) -> Call:
    """UpdateEndpointWeightsAndCapacities."""
    desired = [{"VariantName": VARIANT, "DesiredInstanceCount": count}]
    parameters = {"EndpointName": description.name, "DesiredWeightsAndCapacities": desired}
    return Call("sagemaker", "UpdateEndpointWeightsAndCapacities", parameters)


def component(description: Description, model_name: str) -> Call:
    """CreateInferenceComponent."""
    parameters = {
        "InferenceComponentName": description.name,
        "EndpointName": description.name,
        "VariantName": VARIANT,
        "Specification": component_specification(description, model_name),
        "RuntimeConfig": {"CopyCount": description.copies},
        "Tags": tags(description),
    }
    return Call("sagemaker", "CreateInferenceComponent", parameters)


def component_specification(description: Description, model_name: str) -> dict[str, Any]:
    """The Specification of the inference component."""
    resources = {
        "NumberOfCpuCoresRequired": description.component_cpus,
        "NumberOfAcceleratorDevicesRequired": description.component_accelerators,
        "MinMemoryRequiredInMb": description.component_memory,
    }
    startup = {
        "ModelDataDownloadTimeoutInSeconds": description.download_timeout,
        "ContainerStartupHealthCheckTimeoutInSeconds": description.startup_timeout,
    }
    return {
        "ModelName": model_name,
        "ComputeResourceRequirements": {name: value for name, value in resources.items() if value is not None},
        "StartupParameters": {name: value for name, value in startup.items() if value is not None},
    }


def scaling_id(description: Description) -> dict[str, str]:
    """The scalable target: the variant, or the copies of the inference component."""
    if description.inference_component:
        where, dimension = f"inference-component/{description.name}", COPIES_DIMENSION
    else:
        where, dimension = f"endpoint/{description.name}/variant/{VARIANT}", DIMENSION
    return {"ServiceNamespace": "sagemaker", "ResourceId": where, "ScalableDimension": dimension}


def scalable_target(description: Description) -> Call:
    """RegisterScalableTarget."""
    bounds = {"MinCapacity": description.min_instances, "MaxCapacity": description.max_instances}
    return Call("application-autoscaling", "RegisterScalableTarget", {**scaling_id(description), **bounds})


def scaling_policy(description: Description) -> Call:
    """PutScalingPolicy: target tracking of invocations per instance and minute."""
    metric = "SageMakerVariantInvocationsPerInstance"
    if description.inference_component:
        metric = "SageMakerInferenceComponentInvocationsPerCopy"
    configuration = {
        "TargetValue": description.scaling_target,
        "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
        "ScaleOutCooldown": description.scale_out_cooldown,
        "ScaleInCooldown": description.scale_in_cooldown,
        "DisableScaleIn": False,
    }
    parameters = {
        "PolicyName": POLICY,
        **scaling_id(description),
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": configuration,
    }
    return Call("application-autoscaling", "PutScalingPolicy", parameters)


def bucket(description: Description) -> Call:
    """CreateBucket for the default bucket. The region us-east-1 takes no location."""
    parameters: dict[str, Any] = {"Bucket": description.bucket}
    if description.region != "us-east-1":
        parameters["CreateBucketConfiguration"] = {"LocationConstraint": description.region}
    return Call("s3", "CreateBucket", parameters)
