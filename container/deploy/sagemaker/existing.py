"""The existing state of a deployment: what the account holds under its names and its tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..defaults import default_bucket
from ..description import Description
from ..errors import InvalidDescription, NameTaken
from . import alarms, resources
from .resources import DATA, TAG
from .services import Missing, Services

SETTLED = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
IN_SERVICE = "InService"


@dataclass(frozen=True, slots=True)
class Model:
    """``bucket`` and ``folder``: of its archive, "" for a remote one. ``created``: time, ascending."""

    name: str
    bucket: str
    folder: str
    created: Any


@dataclass(frozen=True, slots=True)
class Config:
    """An endpoint configuration. ``models``: of its variants, the shadow's last; none with inference components."""

    name: str
    created: Any
    models: tuple[str, ...]
    serverless: bool = False
    shadow: bool = False
    asynchronous: bool = False
    instance_type: str = ""
    instances: int | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``instances``: desired ones of the first variant; None where it has none. ``variants``: production variants."""

    status: str
    config: str
    instances: int | None
    tags: Mapping[str, str]
    arn: str
    failure: str = ""
    variants: int = 1

    @property
    def settled(self) -> bool:
        return self.status in SETTLED


@dataclass(frozen=True, slots=True)
class Component:
    """The inference component. ``specification``: as the service describes it."""

    status: str
    model: str
    copies: int
    specification: Mapping[str, Any]
    failure: str = ""

    @property
    def settled(self) -> bool:
        return self.status in ("InService", "Failed")


@dataclass(frozen=True, slots=True)
class Existing:
    """What exists. ``objects``: keys below the deployment's prefix in ``bucket``; None: there is no such bucket.

    ``scaling``: least and most instances. ``policy``: the configuration of its target tracking.
    """

    bucket: str | None = None
    objects: frozenset[str] = frozenset()
    models: Mapping[str, Model] = field(default_factory=dict)
    configs: Mapping[str, Config] = field(default_factory=dict)
    endpoint: Endpoint | None = None
    component: Component | None = None
    scaling: tuple[int, int] | None = None
    policy: Mapping[str, Any] | None = None
    alarms: Mapping[str, str] = field(default_factory=dict)
    """Name to state."""


NOTHING = Existing()


def read(description: Description, services: Services) -> Existing:
    """Read every resource with the deployment's tag. Raises NameTaken for an endpoint of this name without the tag."""
    endpoint = read_endpoint(description, services)
    models = _models(description, services)
    bucket, objects = _objects(description, models, services)
    return Existing(
        bucket=bucket,
        objects=objects,
        models=models,
        configs=_configs(description, services),
        endpoint=endpoint,
        component=read_component(description, services) if description.inference_component else None,
        scaling=_scaling(description, services),
        policy=_policy(description, services),
        alarms=_alarms(description, services),
    )


def read_endpoint(description: Description, services: Services) -> Endpoint | None:
    """The endpoint, or None. Raises NameTaken when it does not carry our tag."""
    try:
        found = services.ask("sagemaker", "DescribeEndpoint", EndpointName=description.name)
    except Missing:
        return None
    tags = _tags(services, found["EndpointArn"])
    if tags.get(TAG) != description.name:
        raise NameTaken(
            f"an endpoint {description.name!r} exists that this tool did not create (it has no tag {TAG}): "
            "choose another --name, or delete that endpoint"
        )
    variant: dict[str, Any] = next(iter(found.get("ProductionVariants", ())), {})
    return Endpoint(
        found["EndpointStatus"],
        found.get("EndpointConfigName", ""),
        variant.get("DesiredInstanceCount"),
        tags,
        found["EndpointArn"],
        found.get("FailureReason", ""),
        len(found.get("ProductionVariants", ())),
    )


def require_one_variant(description: Description, endpoint: Endpoint) -> None:
    """Raises InvalidDescription for an endpoint that somebody gave several production variants."""
    if endpoint.variants > 1:
        raise InvalidDescription(
            f"the endpoint {description.name} has {endpoint.variants} production variants, and this tool gives it one: "
            "canary shares its traffic; choose another --name for the rest, or run down"
        )


def read_component(description: Description, services: Services) -> Component | None:
    """The inference component of the deployment, or None."""
    try:
        found = services.ask("sagemaker", "DescribeInferenceComponent", InferenceComponentName=description.name)
    except Missing:
        return None
    specification = found.get("Specification", {})
    return Component(
        found.get("InferenceComponentStatus", ""),
        specification.get("ModelName", ""),
        found.get("RuntimeConfig", {}).get("DesiredCopyCount", 0),
        specification,
        found.get("FailureReason", ""),
    )


def _tags(services: Services, arn: str) -> dict[str, str]:
    return {one["Key"]: one["Value"] for one in services.pages("sagemaker", "ListTags", "Tags", ResourceArn=arn)}


def _models(description: Description, services: Services) -> dict[str, Model]:
    found = {}
    for one in services.pages("sagemaker", "ListModels", "Models", NameContains=description.name):
        if resources.owned_name(description.name, one["ModelName"]):
            tags = _tags(services, one["ModelArn"])
            if tags.get(TAG) == description.name:
                bucket, _, folder = tags.get(DATA, "").partition("/")
                found[one["ModelName"]] = Model(one["ModelName"], bucket, folder, one["CreationTime"])
    return found


def _configs(description: Description, services: Services) -> dict[str, Config]:
    found = {}
    for one in services.pages("sagemaker", "ListEndpointConfigs", "EndpointConfigs", NameContains=description.name):
        name = one["EndpointConfigName"]
        if not resources.owned_name(description.name, name):
            continue
        if _tags(services, one["EndpointConfigArn"]).get(TAG) == description.name:
            found[name] = read_config(name, one["CreationTime"], services)
    return found


def read_config(name: str, created: Any, services: Services) -> Config:
    """One endpoint configuration."""
    described = services.ask("sagemaker", "DescribeEndpointConfig", EndpointConfigName=name)
    shadows = described.get("ShadowProductionVariants", [])
    variants = [*described.get("ProductionVariants", []), *shadows]
    models = tuple(variant["ModelName"] for variant in variants if "ModelName" in variant)
    return Config(
        name,
        created,
        models,
        serverless=any("ServerlessConfig" in variant for variant in variants),
        shadow=bool(shadows),
        asynchronous=bool(described.get("AsyncInferenceConfig")),
        instance_type=variants[0].get("InstanceType", "") if variants else "",
        instances=variants[0].get("InitialInstanceCount") if variants else None,
    )


def _objects(
    description: Description, models: Mapping[str, Model], services: Services
) -> tuple[str | None, frozenset[str]]:
    """The bucket of the description, else that of a model, else the default one."""
    of_models = (one.bucket for one in models.values() if one.bucket)
    bucket = description.bucket or next(of_models, None) or default_bucket(description.region, services.account())
    prefix = resources.prefix(description)
    try:
        return bucket, frozenset(
            one["Key"] for one in services.pages("s3", "ListObjectsV2", "Contents", Bucket=bucket, Prefix=prefix)
        )
    except Missing:
        return None, frozenset()


def _scaling(description: Description, services: Services) -> tuple[int, int] | None:
    where = resources.scaling_id(description)
    found = services.ask(
        "application-autoscaling",
        "DescribeScalableTargets",
        ServiceNamespace=where["ServiceNamespace"],
        ResourceIds=[where["ResourceId"]],
        ScalableDimension=where["ScalableDimension"],
    )["ScalableTargets"]
    return (found[0]["MinCapacity"], found[0]["MaxCapacity"]) if found else None


def _policy(description: Description, services: Services) -> Mapping[str, Any] | None:
    where = resources.scaling_id(description)
    listed = services.pages("application-autoscaling", "DescribeScalingPolicies", "ScalingPolicies", **where)
    ours = [one for one in listed if one["PolicyName"] == resources.POLICY]
    return ours[0].get("TargetTrackingScalingPolicyConfiguration", {}) if ours else None


def _alarms(description: Description, services: Services) -> dict[str, str]:
    names = alarms.names(description.name)
    listed = services.pages("cloudwatch", "DescribeAlarms", "MetricAlarms", AlarmNames=names)
    return {one["AlarmName"]: one["StateValue"] for one in listed}
