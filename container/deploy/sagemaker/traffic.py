"""Canary, shadow and rollback: which configuration gets the traffic, with the platform's deployment guardrails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import service_model
from ..calls import Call
from ..description import Description
from ..errors import InvalidDescription, NotThere
from ..order import Order
from ..plan import Action, Plan, Step
from . import alarms, deployment, existing, planning, present, reconcile, refusals, resources
from .existing import Config, Endpoint, Existing
from .present import Present
from .reconcile import Desired
from .services import Services

TERMINATION_WAIT_S = 120
"""The old instances stay so long after the shift, for a rollback without a start."""
IN_PLACE = "IN-SERVICE"
"""What a plan calls the model and the configuration that serve, where the account cannot be read."""
LEAST_EXECUTION_S, MOST_EXECUTION_S, SPARE_S = 600, 28_800, 1_800


def plan(order: Order) -> Plan:
    """The plan of a canary or a shadow. Raises NotThere without an endpoint."""
    wanted = planning.checked(order)
    refusals.check_guarded(order.description, order.effect)
    services = planning.services(order, planning.PLAN_ATTEMPTS)
    unknown = ""
    try:
        at = present.require(order, services)
        found, serving = existing.read(at.order.description, services), at.config.models[0]
    except planning.UNREADABLE as error:
        unknown, found, serving = str(error), _assumed(order.description), IN_PLACE
    steps: list[Step] = []
    guards = None
    if order.effect == "shadow":
        wanted = _shadowed(order.description, wanted, serving)
    else:
        alarmed, guards = _guarded(order.description, wanted)
        same = found.endpoint is not None and found.endpoint.config == wanted.config_name
        steps = [] if same else [alarmed]
    steps += reconcile.steps(order.description, wanted, found, guards)
    assumed = f"the plan is that for an endpoint that serves another model, which it calls {IN_PLACE}"
    made = Plan(order.description, tuple(steps), unknown, assumed=assumed)
    service_model.check(made.calls)
    return made


def _assumed(description: Description) -> Existing:
    """An endpoint that serves another model."""
    tags = {resources.TAG: description.name, **description.tags}
    endpoint = Endpoint(existing.IN_SERVICE, IN_PLACE, description.instance_count, tags, "")
    config = Config(IN_PLACE, "", (IN_PLACE,))
    return Existing(bucket=description.bucket, configs={IN_PLACE: config}, endpoint=endpoint)


def canary(order: Order) -> bool:
    """Shift traffic under alarms. False when nothing had to change. Raises DeploymentFailed after a rollback."""
    services = planning.services(order)
    wanted = planning.checked(order)
    refusals.check_guarded(order.description, "canary")
    if present.require(order, services).endpoint.config == wanted.config_name:
        return False
    alarmed, guards = _guarded(order.description, wanted)
    deployment.carry_out(order, services, [alarmed])
    deployment.bring_about(order, services, wanted, guards)
    return True


def _guarded(description: Description, wanted: Desired) -> tuple[Step, dict[str, Any]]:
    """The step that makes the alarms, and the DeploymentConfig of an update under them. Raises InvalidDescription."""
    calls = alarms.calls(description)
    names = [str(call.parameters["AlarmName"]) for call in calls]
    guards = guardrails(description, names)
    service_model.check([*calls, resources.endpoint_update(description, wanted.config_name, guards)])
    return Step(Action.UPDATE, "alarms", ", ".join(names), tuple(calls)), guards


def guardrails(description: Description, alarm_names: list[str]) -> dict[str, Any]:
    """DeploymentConfig: a canary, its watch, and the alarms that end it. Raises InvalidDescription."""
    if not 1 <= description.canary_percent <= 50:
        raise InvalidDescription("--canary-percent takes 1 to 50")
    if not 0 <= description.canary_minutes <= 60:
        raise InvalidDescription("--canary-minutes takes 0 to 60")
    watch_s = description.canary_minutes * 60
    start_s = (description.startup_timeout or 0) + (description.download_timeout or 0)
    longest_s = min(max(watch_s + start_s + TERMINATION_WAIT_S + SPARE_S, LEAST_EXECUTION_S), MOST_EXECUTION_S)
    routing = {
        "Type": "CANARY",
        "WaitIntervalInSeconds": watch_s,
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": description.canary_percent},
    }
    policy = {
        "TrafficRoutingConfiguration": routing,
        "TerminationWaitInSeconds": TERMINATION_WAIT_S,
        "MaximumExecutionTimeoutInSeconds": longest_s,
    }
    rollback_on = {"Alarms": [{"AlarmName": name} for name in alarm_names]}
    return {"BlueGreenUpdatePolicy": policy, "AutoRollbackConfiguration": rollback_on}


def shadow(order: Order) -> int:
    """Add the model as a shadow of the one in service. Returns how many calls were sent."""
    services = planning.services(order)
    wanted = planning.checked(order)
    refusals.check_guarded(order.description, "shadow")
    serving = present.require(order, services).config.models[0]
    return deployment.bring_about(order, services, _shadowed(order.description, wanted, serving))


def _shadowed(description: Description, wanted: Desired, serving: str) -> Desired:
    """The wanted model as the shadow of the model in service. Raises InvalidDescription."""
    if not 1 <= description.shadow_percent <= 100:
        raise InvalidDescription("--shadow-percent takes 1 to 100")
    if serving == wanted.model_name:
        raise InvalidDescription("this model is the one in service: give another artifact")
    return replace(wanted, config=resources.endpoint_config(description, serving, wanted.model_name))


def rollback(order: Order) -> str:
    """Return to the configuration, or the component's model, before. Returns its name. Raises NotThere."""
    services = planning.services(order)
    found = present.require(order, services)
    there = deployment.settled(found.order, services)
    if there.component is not None:
        return _rollback_component(found.order, services, there)
    return _rollback_endpoint(found, services, there)


def _rollback_endpoint(found: Present, services: Services, there: Existing) -> str:
    order = found.order
    used = there.endpoint.config if there.endpoint is not None else ""
    name = _before({name: one.created for name, one in there.configs.items() if name != used})
    call = resources.endpoint_update(order.description, name)
    step = Step(Action.UPDATE, "endpoint", order.description.name, (call,), f"from {used} to {name}", wait=True)
    deployment.carry_out(order, services, [step])
    endpoint = existing.read_endpoint(order.description, services)
    if endpoint is None or endpoint.config != name:
        raise NotThere(
            f"the endpoint did not return to {name}: {endpoint.failure if endpoint is not None else 'it is gone'}"
        )
    return name


def _rollback_component(order: Order, services: Services, there: Existing) -> str:
    component = there.component
    assert component is not None
    name = _before({name: one.created for name, one in there.models.items() if name != component.model})
    kept = ("ComputeResourceRequirements", "StartupParameters")
    specification = {key: component.specification[key] for key in kept if component.specification.get(key)}
    parameters = {
        "InferenceComponentName": order.description.name,
        "Specification": {"ModelName": name, **specification},
    }
    call = Call("sagemaker", "UpdateInferenceComponent", parameters)
    why = f"from {component.model} to {name}"
    step = Step(Action.UPDATE, "inference component", order.description.name, (call,), why, wait=True)
    deployment.carry_out(order, services, [step])
    return name


def _before(created: dict[str, Any]) -> str:
    if not created:
        raise NotThere("there is no version before this one to return to")
    return max(created, key=lambda name: (created[name], name))
