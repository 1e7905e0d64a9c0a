"""The commands of the SageMaker engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import costs, request, service_model
from ..calls import Call
from ..engines import Command
from ..errors import InvalidDescription, NotThere
from ..order import Order
from . import cost as prices
from . import deployment, existing, image, logs, planning, policy, present, reconcile, registry, resources, traffic
from .existing import Existing

INLINE_BYTES = 128_000
"""Largest input of an asynchronous request that is sent as its body."""


def plan(order: Order) -> None:
    """Print the plan of ``up``, of a canary or of a shadow."""
    made = planning.make(order) if order.effect == "up" else traffic.plan(order)
    order.say(made.as_json() if order.json else made.as_text())


def push(order: Order) -> None:
    """Upload the model archive, and the image where a local one is named."""
    services = planning.services(order)
    if order.description.local_image is not None:
        image.push(order, services)
    order.description.require("image", "role", "bucket")
    wanted = planning.checked(order)
    found = existing.read(order.description, services)
    kinds = ("bucket", "object")
    steps = [one for one in reconcile.steps(order.description, wanted, found) if one.kind in kinds]
    sent = deployment.carry_out(order, services, [one for one in steps if one.action.value == "create"])
    order.say(
        f"uploaded to {resources.model_url(order.description, planning.source_of(order))}"
        if sent
        else "nothing to upload"
    )


def up(order: Order) -> None:
    """Create or change the deployment, and wait until it is in service."""
    wanted, services = planning.checked(order), planning.services(order)
    sent = deployment.bring_about(order, services, wanted)
    order.say(f"in service: {order.description.name}" + ("" if sent else "; nothing had to change"))


def update(order: Order) -> None:
    """As ``up``, for an endpoint that exists."""
    present.require(order, planning.services(order))
    up(order)


def status(order: Order) -> None:
    """Print what exists."""
    services = planning.services(order)
    found = present.require(order, services)
    order.show(present.document(found, existing.read(found.order.description, services)))


def scale(order: Order) -> None:
    """Change the number of instances or copies, or the bounds of auto scaling."""
    services = planning.services(order)
    found = present.require(order, services)
    if found.config.serverless:
        raise InvalidDescription("a serverless endpoint scales by itself; change --max-concurrency with up")
    there = existing.read(found.order.description, services)
    steps = list(reconcile.scale(_with_target(found.order, there).description, there))
    service_model.check(call for step in steps for call in step.calls)
    sent = deployment.carry_out(found.order, services, steps)
    order.say("scaled" if sent else "nothing had to change")


def _with_target(order: Order, found: Existing) -> Order:
    """The target value of the present policy where none is given."""
    description = order.description
    if description.max_instances is not None and description.scaling_target is None:
        present_target = (found.policy or {}).get("TargetValue")
        if present_target is None:
            raise InvalidDescription("auto scaling needs a target: pass --scaling-target, or --bench-plan")
        return replace(order, description=replace(description, scaling_target=present_target))
    return order


def invoke(order: Order) -> None:
    """Send one request and print the response."""
    services = planning.services(order)
    found = present.require(order, services)
    model = order.facts.model
    body, content_type = request.body_of(order, model.path if model is not None else None)
    asked: dict[str, Any] = {"EndpointName": order.description.name, "ContentType": content_type, "Body": body}
    if order.target_model is not None:
        asked["TargetModel"] = order.target_model
    if found.order.description.inference_component:
        asked["InferenceComponentName"] = order.description.name
    if found.config.asynchronous:
        if len(body) > INLINE_BYTES:
            raise InvalidDescription(
                f"the request is larger than {INLINE_BYTES} bytes: upload it and invoke it with boto3"
            )
        accepted = services.send(Call("sagemaker-runtime", "InvokeEndpointAsync", asked))
        order.say(f"accepted; the result will be {accepted['OutputLocation']}")
        return
    response = services.send(Call("sagemaker-runtime", "InvokeEndpoint", asked))
    order.say(response["Body"].read().decode("utf-8", "backslashreplace"))


def canary(order: Order) -> None:
    """Shift traffic to the model under alarms."""
    shifted = traffic.canary(order)
    order.say(f"in service: {order.description.name}" + ("" if shifted else "; nothing had to change"))


def shadow(order: Order) -> None:
    """Send copies of the requests to the model."""
    sent = traffic.shadow(order)
    order.say(
        "the shadow gets copies of the requests; update makes it serve, rollback ends it"
        if sent
        else "nothing had to change"
    )


def rollback(order: Order) -> None:
    """Return to the version before."""
    order.say(f"in service again: {traffic.rollback(order)}")


def register(order: Order) -> None:
    """Register the artifact with its evidence."""
    arn, new = registry.register(order, planning.services(order))
    order.say(f"{'registered' if new else 'registered already'}: {arn}; approve deploys it with up --from-registry")


def approve(order: Order) -> None:
    """Approve or reject a version."""
    order.description.require("group")
    version = registry.approve(order, planning.services(order))
    order.say(f"{version['ModelApprovalStatus']}: {version['ModelPackageArn']}")


def show_logs(order: Order) -> None:
    """Print the newest lines of the container's log."""
    lines = logs.newest(planning.services(order), order.description.name, order.lines)
    if not lines:
        raise NotThere(f"there is no log {logs.group(order.description.name)}: the container printed nothing yet")
    order.say(json.dumps({"lines": lines}) if order.json else "\n".join(lines))


def cost(order: Order) -> None:
    """Print the cost."""
    found = prices.of(order, planning.services(order))
    order.say(json.dumps(found, indent=2) if order.json else "\n".join(costs.as_text(found)))


def show_policy(order: Order) -> None:
    """Print the policy of the caller, or that of the execution role."""
    make = policy.of_role if order.for_role else policy.of_caller
    order.say(json.dumps(make(order.description), indent=2))


def down(order: Order) -> None:
    """Remove everything with the deployment's tag."""
    services = planning.services(order)
    found = present.find(order, services)
    known = found.order if found is not None else order
    sent = deployment.remove(known, services, deployment.settled(known, services))
    order.say(f"removed: {order.description.name}" if sent else "nothing to remove")


COMMANDS: Mapping[str, Command] = {
    "push": push,
    "plan": plan,
    "up": up,
    "update": update,
    "status": status,
    "invoke": invoke,
    "scale": scale,
    "shadow": shadow,
    "canary": canary,
    "rollback": rollback,
    "register": register,
    "approve": approve,
    "logs": show_logs,
    "cost": cost,
    "policy": show_policy,
    "down": down,
}
