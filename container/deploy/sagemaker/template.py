"""The CloudFormation template of a deployment, made of the same calls that ``up`` sends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import service_model
from ..calls import Call
from ..description import Description
from ..model_source import ModelSource
from ..order import Order
from . import alarms, planning, resources
from .existing import NOTHING
from .reconcile import Desired, scaling

FORMAT = "2010-09-09"
MODEL, CONFIG, ENDPOINT, COMPONENT = "Model", "EndpointConfiguration", "Endpoint", "InferenceComponent"
TARGET, POLICY = "ScalableTarget", "ScalingPolicy"
ALARMS = {alarms.ERRORS: "ErrorsAlarm", alarms.LATENCY: "LatencyAlarm", alarms.SHED: "ShedAlarm"}
WATCH_S, SPARE_S, LEAST_S, MOST_S = 600, 1_800, 600, 28_800
"""Seconds: the watch of the new instances of an update, what is added to the start, and the platform's bounds."""


def template(order: Order) -> None:
    """Print the template as JSON. Nothing is asked and nothing is sent."""
    wanted = planning.checked(order)
    made = document(order.description, wanted, planning.source_of(order))
    order.say(json.dumps(made, indent=2, ensure_ascii=False))


def document(description: Description, wanted: Desired, source: ModelSource) -> dict[str, Any]:
    """The template. Raises InvalidDescription for parameters that a service refuses."""
    guards = [] if description.serverless is not None else alarms.calls(description)
    scaled = {call.operation: call for step in scaling(description, NOTHING) for call in step.calls}
    service_model.check([*guards, *scaled.values()])
    made = {
        MODEL: _resource("SageMaker::Model", wanted.model.parameters),
        CONFIG: _resource("SageMaker::EndpointConfig", _config(wanted.config)),
        ENDPOINT: _endpoint(description, wanted, [_alarm_key(one) for one in guards]),
    }
    if description.inference_component:
        made[COMPONENT] = _component(description, wanted.model_name)
    for guard in guards:
        made[_alarm_key(guard)] = _resource("CloudWatch::Alarm", guard.parameters)
    made |= _scaling(description, scaled)
    return {
        "AWSTemplateFormatVersion": FORMAT,
        "Description": f"{description.name}: a model served by Slipway on SageMaker",
        "Metadata": {"Slipway": _metadata(description, source)},
        "Resources": made,
        "Outputs": {
            "EndpointName": {"Value": _attribute(ENDPOINT, "EndpointName")},
            "EndpointArn": {"Value": {"Ref": ENDPOINT}},
        },
    }


def _metadata(description: Description, source: ModelSource) -> dict[str, Any]:
    """Where the values come from, and what must exist before the stack."""
    before = [] if source.remote is not None else [resources.model_url(description, source)]
    sources = {name: description.source(name) for name in description.shown()}
    return {"UploadBefore": before, "UploadWith": "python -m container.deploy push", "Sources": sources}


def _resource(kind: str, properties: Mapping[str, Any], after: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"Type": f"AWS::{kind}"}
    if after:
        made["DependsOn"] = after
    return {**made, "Properties": dict(properties)}


def _attribute(resource: str, name: str) -> dict[str, list[str]]:
    return {"Fn::GetAtt": [resource, name]}


def _config(call: Call) -> dict[str, Any]:
    """The configuration, whose variants refer to the model of the template."""
    variants = [
        {**one, "ModelName": _attribute(MODEL, "ModelName")} if "ModelName" in one else one
        for one in call.parameters["ProductionVariants"]
    ]
    return {**call.parameters, "ProductionVariants": variants}


def _endpoint(description: Description, wanted: Desired, guards: list[str]) -> dict[str, Any]:
    create = resources.endpoint(description, wanted.config_name)
    properties = {**create.parameters, "EndpointConfigName": _attribute(CONFIG, "EndpointConfigName")}
    if description.max_instances is not None and not description.inference_component:
        properties["RetainAllVariantProperties"] = True
    if _guarded(description):
        properties["DeploymentConfig"] = _deployment(description, guards)
    return _resource("SageMaker::Endpoint", properties)


def _guarded(description: Description) -> bool:
    """Whether the platform replaces the instances under alarms: variants of instances that answer at once."""
    special = (description.serverless, description.asynchronous)
    return special == (None, None) and not description.inference_component and not description.multi_model


def _deployment(description: Description, guards: list[str]) -> dict[str, Any]:
    """New instances beside the old ones; an alarm in the first minutes brings the old ones back."""
    start_s = (description.startup_timeout or 0) + (description.download_timeout or 0)
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": WATCH_S}
    policy = {
        "TrafficRoutingConfiguration": routing,
        "TerminationWaitInSeconds": WATCH_S,
        "MaximumExecutionTimeoutInSeconds": min(max(2 * WATCH_S + start_s + SPARE_S, LEAST_S), MOST_S),
    }
    rollback = {"Alarms": [{"AlarmName": {"Ref": name}} for name in guards]}
    return {"BlueGreenUpdatePolicy": policy, "AutoRollbackConfiguration": rollback}


def _component(description: Description, model_name: str) -> dict[str, Any]:
    call = resources.component(description, model_name)
    specification = {**call.parameters["Specification"], "ModelName": _attribute(MODEL, "ModelName")}
    properties = {
        **call.parameters,
        "EndpointName": _attribute(ENDPOINT, "EndpointName"),
        "Specification": specification,
    }
    return _resource("SageMaker::InferenceComponent", properties)


def _alarm_key(call: Call) -> str:
    return next(key for kind, key in ALARMS.items() if call.parameters["AlarmName"].endswith(f"-{kind}"))


def _scaling(description: Description, scaled: Mapping[str, Call]) -> dict[str, Any]:
    """The scalable target and its policy, none without auto scaling."""
    if not scaled:
        return {}
    target = dict(scaled["RegisterScalableTarget"].parameters)
    policy = dict(scaled["PutScalingPolicy"].parameters)
    for key in resources.scaling_id(description):
        del policy[key]
    after = COMPONENT if description.inference_component else ENDPOINT
    return {
        TARGET: _resource("ApplicationAutoScaling::ScalableTarget", target, after),
        POLICY: _resource("ApplicationAutoScaling::ScalingPolicy", {**policy, "ScalingTargetId": {"Ref": TARGET}}),
    }
