"""The difference: the steps from the existing state to the described one, and those that end a deployment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..calls import Call
from ..description import Description
from ..errors import InvalidDescription, NotThere
from ..model_source import ModelSource
from ..plan import Action, Step
from . import resources
from .existing import IN_SERVICE, Config, Existing, Model, require_one_variant
from .resources import TAG

BROKEN = ("Failed", "OutOfService")


@dataclass(frozen=True, slots=True)
class Desired:
    """The calls that create what is described. ``uploads``: objects that the model reads, below ``folder``."""

    uploads: tuple[resources.Upload, ...]
    model: Call
    config: Call
    folder: str = ""
    for_component: bool = False

    @property
    def model_name(self) -> str:
        return str(self.model.parameters["ModelName"])

    @property
    def config_name(self) -> str:
        return str(self.config.parameters["EndpointConfigName"])

    @property
    def models(self) -> set[str]:
        """The names of all models that the configuration uses, and of the new one."""
        parameters = self.config.parameters
        variants = [*parameters["ProductionVariants"], *parameters.get("ShadowProductionVariants", ())]
        return {self.model_name, *(one["ModelName"] for one in variants if "ModelName" in one)}


def desired(description: Description, source: ModelSource) -> Desired:
    """The resources of a description with a model of this machine, or of an s3:// address."""
    description.require("image", "role", "name")
    if source.remote is None:
        description.require("bucket")
    uploads = tuple(resources.uploads(description, source))
    folder = resources.folder(source) if uploads else ""
    return desired_of(description, resources.model(description, source), uploads, folder)


def desired_of(
    description: Description, model: Call, uploads: tuple[resources.Upload, ...] = (), folder: str = ""
) -> Desired:
    """The resources of a description with a given CreateModel."""
    if description.serverless is None:
        description.require("instance_type")
    config = resources.endpoint_config(description, str(model.parameters["ModelName"]))
    return Desired(uploads, model, config, folder, description.inference_component)


def steps(description: Description, wanted: Desired, existing: Existing, deployment: Any = None) -> Iterator[Step]:
    """All steps of ``up``, in order. ``deployment``: the DeploymentConfig of an update."""
    yield from _bucket(description, wanted, existing)
    for upload in wanted.uploads:
        yield _once(upload.key in existing.objects, "object", f"s3://{upload.bucket}/{upload.key}", upload.put)
    yield _once(wanted.model_name in existing.models, "model", wanted.model_name, wanted.model)
    yield _once(wanted.config_name in existing.configs, "endpoint configuration", wanted.config_name, wanted.config)
    yield from _endpoint(description, wanted, existing, deployment)
    if description.inference_component:
        yield _component(description, wanted, existing)
    yield from scaling(description, existing)
    yield from unused(description, existing, kept(existing, wanted))


def _once(there: bool, kind: str, name: str, create: Call) -> Step:
    return Step(Action.NOTHING, kind, name) if there else Step(Action.CREATE, kind, name, (create,))


def _bucket(description: Description, wanted: Desired, existing: Existing) -> Iterator[Step]:
    if not wanted.uploads or existing.bucket is not None:
        return
    name = str(description.bucket)
    if not description.source("bucket").startswith("the default bucket"):
        raise NotThere(f"bucket {name} does not exist: create it (aws s3 mb s3://{name}), or pass another --bucket")
    yield Step(Action.CREATE, "bucket", name, (resources.bucket(description),), "the default bucket does not exist yet")


def _endpoint(description: Description, wanted: Desired, existing: Existing, deployment: Any) -> Iterator[Step]:
    create = resources.endpoint(description, wanted.config_name)
    found, name = existing.endpoint, description.name
    if found is not None:
        require_one_variant(description, found)
    if found is None or found.status in BROKEN:
        if found is not None:
            delete = Call("sagemaker", "DeleteEndpoint", {"EndpointName": name})
            yield Step(Action.REPLACE, "endpoint", name, (delete,), f"its status is {found.status}", wait=True)
        yield Step(Action.CREATE, "endpoint", name, (create,), wait=True)
        yield from count(description, _initial(description, wanted, existing))
        return
    instances = found.instances
    if found.config != wanted.config_name or found.status != IN_SERVICE:
        _refuse_change_of_kind(description, existing)
        update = resources.endpoint_update(description, wanted.config_name, deployment)
        why = f"its configuration is {found.config}, its status {found.status}"
        yield Step(Action.UPDATE, "endpoint", name, (update,), why, wait=True)
        instances = _initial(description, wanted, existing)
    else:
        yield Step(Action.NOTHING, "endpoint", name)
    yield from _tags(description, found.tags, found.arn)
    yield from count(description, instances)


def _initial(description: Description, wanted: Desired, existing: Existing) -> int | None:
    """The instances that the wanted configuration starts; one that exists may be from another count."""
    config = existing.configs.get(wanted.config_name)
    return config.instances if config is not None else description.instance_count


def _refuse_change_of_kind(description: Description, existing: Existing) -> None:
    """An endpoint keeps its kind: instances, serverless, or inference components."""
    assert existing.endpoint is not None
    config = existing.configs.get(existing.endpoint.config)
    if config is None:
        return
    components = not config.models
    if config.serverless != (description.serverless is not None) or components != description.inference_component:
        raise InvalidDescription(
            "an endpoint cannot change between instances, serverless and inference components: "
            "run down first, or choose another --name"
        )


def _tags(description: Description, present: Mapping[str, str], arn: str) -> Iterator[Step]:
    wanted = {TAG: description.name, **description.tags}
    missing = [{"Key": key, "Value": value} for key, value in wanted.items() if present.get(key) != value]
    if missing:
        call = Call("sagemaker", "AddTags", {"ResourceArn": arn, "Tags": missing})
        yield Step(Action.UPDATE, "tags of endpoint", description.name, (call,))


def count(description: Description, present: int | None) -> Iterator[Step]:
    """The number of instances, which belongs to auto scaling where there is one."""
    if description.serverless is not None or description.max_instances is not None:
        return
    if present is not None and present != description.instance_count:
        call = resources.instance_count(description, description.instance_count)
        why = f"from {present} to {description.instance_count}"
        yield Step(Action.UPDATE, "instances of endpoint", description.name, (call,), why, wait=True)


def scale(description: Description, existing: Existing) -> Iterator[Step]:
    """The steps of ``scale``: the number of instances or copies, or the bounds of auto scaling."""
    if description.max_instances is not None:
        yield from scaling(description, existing)
    elif existing.component is not None:
        if existing.component.copies != description.copies:
            runtime = {"DesiredRuntimeConfig": {"CopyCount": description.copies}}
            parameters = {"InferenceComponentName": description.name, **runtime}
            call = Call("sagemaker", "UpdateInferenceComponentRuntimeConfig", parameters)
            why = f"from {existing.component.copies} to {description.copies}"
            yield Step(Action.UPDATE, "inference component", description.name, (call,), why, wait=True)
    elif existing.endpoint is not None:
        yield from count(description, existing.endpoint.instances)


def _component(description: Description, wanted: Desired, existing: Existing) -> Step:
    create = resources.component(description, wanted.model_name)
    found, name, kind = existing.component, description.name, "inference component"
    if found is None:
        return Step(Action.CREATE, kind, name, (create,), wait=True)
    specification = resources.component_specification(description, wanted.model_name)
    same = found.model == wanted.model_name and all(
        _covers(found.specification.get(key), value) for key, value in specification.items()
    )
    changes: dict[str, Any] = {}
    if not same or found.status == "Failed":
        changes["Specification"] = specification
    if found.copies != description.copies and description.max_instances is None:
        changes["RuntimeConfig"] = {"CopyCount": description.copies}
    if not changes:
        return Step(Action.NOTHING, kind, name)
    call = Call("sagemaker", "UpdateInferenceComponent", {"InferenceComponentName": name, **changes})
    return Step(Action.UPDATE, kind, name, (call,), f"{' and '.join(changes)} differ", wait=True)


def _covers(present: Any, wanted: Any) -> bool:
    """Whether a described value has everything of a wanted one; the service adds members of its own."""
    if isinstance(wanted, dict):
        return isinstance(present, Mapping) and all(_covers(present.get(key), one) for key, one in wanted.items())
    return bool(present == wanted)


def scaling(description: Description, existing: Existing) -> Iterator[Step]:
    """Registers, changes or removes auto scaling."""
    name = resources.scaling_id(description)["ResourceId"]
    if description.max_instances is None:
        if existing.scaling is not None:
            yield Step(Action.DELETE, "auto scaling of", name, end_of_scaling(description, existing))
        return
    target = resources.scalable_target(description)
    bounds = (description.min_instances, description.max_instances)
    if existing.scaling is None:
        yield Step(Action.CREATE, "auto scaling of", name, (target,), f"from {bounds[0]} to {bounds[1]}")
    elif existing.scaling != bounds:
        yield Step(Action.UPDATE, "auto scaling of", name, (target,), f"from {bounds[0]} to {bounds[1]}")
    else:
        yield Step(Action.NOTHING, "auto scaling of", name)
    put = resources.scaling_policy(description)
    if existing.policy is None:
        yield Step(Action.CREATE, "scaling policy", resources.POLICY, (put,))
    elif not _covers(existing.policy, put.parameters["TargetTrackingScalingPolicyConfiguration"]):
        yield Step(Action.UPDATE, "scaling policy", resources.POLICY, (put,))
    else:
        yield Step(Action.NOTHING, "scaling policy", resources.POLICY)


def end_of_scaling(description: Description, existing: Existing) -> tuple[Call, ...]:
    """The calls that remove the policy, if there is one, and the scalable target."""
    where = resources.scaling_id(description)
    service = "application-autoscaling"
    policy = [Call(service, "DeleteScalingPolicy", {"PolicyName": resources.POLICY, **where})]
    target = [Call(service, "DeregisterScalableTarget", where)]
    return (*(policy if existing.policy is not None else ()), *(target if existing.scaling is not None else ()))


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays: names of configurations and models, and folders of archives."""

    configs: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()


def kept(existing: Existing, wanted: Desired) -> Kept:
    """What stays after ``up``: the wanted resources, and those before them for ``rollback``."""
    used = existing.endpoint.config if existing.endpoint is not None else None
    if used is not None and used != wanted.config_name and used in existing.configs:
        previous = [used]
    else:
        previous = _newest(existing.configs, wanted.config_name)
    configs = {wanted.config_name, *previous}
    models = wanted.models | {one for name in previous for one in existing.configs[name].models}
    if wanted.for_component:
        models |= set(_newest(existing.models, wanted.model_name))
    return _kept(existing, configs, models, {wanted.folder})


def kept_after_failure(existing: Existing, failed: Desired) -> Kept:
    """What stays after a failure: all that was there before it, and all that is in service."""
    used = existing.endpoint.config if existing.endpoint is not None else None
    configs = {name for name in existing.configs if name == used or name != failed.config_name}
    models = {one for name in configs for one in existing.configs[name].models}
    if existing.component is not None:
        models |= {existing.component.model, *_newest(existing.models, failed.model_name)}
    return _kept(existing, configs, models, set())


def _kept(existing: Existing, configs: set[str], models: set[str], folders: set[str]) -> Kept:
    data = {existing.models[name].folder for name in models & existing.models.keys()}
    return Kept(frozenset(configs), frozenset(models), frozenset(data | folders))


def unused(description: Description, existing: Existing, keep: Kept) -> Iterator[Step]:
    """Deletes the configurations, models and archives of the deployment that are not in ``keep``."""
    for name in sorted(existing.configs.keys() - keep.configs):
        call = Call("sagemaker", "DeleteEndpointConfig", {"EndpointConfigName": name})
        yield Step(Action.DELETE, "endpoint configuration", name, (call,), "no longer used")
    for name in sorted(existing.models.keys() - keep.models):
        call = Call("sagemaker", "DeleteModel", {"ModelName": name})
        yield Step(Action.DELETE, "model", name, (call,), "no longer used")
    prefix = resources.prefix(description)
    for key in sorted(existing.objects):
        if key.removeprefix(prefix).partition("/")[0] not in keep.folders:
            call = Call("s3", "DeleteObject", {"Bucket": existing.bucket, "Key": key})
            yield Step(Action.DELETE, "object", f"s3://{existing.bucket}/{key}", (call,), "no longer used")


def _newest(there: Mapping[str, Model] | Mapping[str, Config], current: str) -> list[str]:
    """The name of the newest one other than ``current``, if any."""
    others = sorted((one.created, name) for name, one in there.items() if name != current)
    return [name for _, name in others[-1:]]


def removal(description: Description, existing: Existing) -> Iterator[Step]:
    """All steps of ``down``: everything with our tag, in the reverse order of creation."""
    where = resources.scaling_id(description)["ResourceId"]
    if existing.scaling is not None or existing.policy is not None:
        yield Step(Action.DELETE, "auto scaling of", where, end_of_scaling(description, existing))
    if existing.component is not None:
        call = Call("sagemaker", "DeleteInferenceComponent", {"InferenceComponentName": description.name})
        yield Step(Action.DELETE, "inference component", description.name, (call,), wait=True)
    if existing.endpoint is not None:
        call = Call("sagemaker", "DeleteEndpoint", {"EndpointName": description.name})
        yield Step(Action.DELETE, "endpoint", description.name, (call,), wait=True)
    yield from unused(description, existing, Kept())
    if existing.alarms:
        call = Call("cloudwatch", "DeleteAlarms", {"AlarmNames": sorted(existing.alarms)})
        yield Step(Action.DELETE, "alarms", ", ".join(sorted(existing.alarms)), (call,))
