"""Execution of a plan: sends its calls in order, waits, and cleans up after a failure. A second run changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import service_model
from ..errors import DeployError, TookTooLong
from ..order import Order
from ..plan import Action, Step
from . import existing, failure, logs, planning, reconcile, waiting
from .existing import IN_SERVICE, Existing
from .reconcile import Desired
from .services import Missing, Services


def settled(order: Order, services: Services) -> Existing:
    """What exists, once the endpoint and the inference component are in final states. Raises TookTooLong."""
    waiting.settled_endpoint(order, services)
    if order.description.inference_component:
        waiting.settled_component(order, services)
    return existing.read(order.description, services)


def bring_about(order: Order, services: Services, wanted: Desired, deployment: Any = None) -> int:
    """Carry out the plan from what exists to ``wanted``. Returns how many calls were sent. Raises DeployError."""
    found = settled(order, services)
    steps = list(reconcile.steps(order.description, wanted, found, deployment))
    service_model.check(call for step in steps for call in step.calls)
    done: list[Step] = []
    try:
        for step in steps:
            _run(order, services, step, wanted)
            done.append(step)
    except TookTooLong:
        raise
    except DeployError as error:
        if not order.keep:
            _clean(order, services, wanted, done, error)
        raise
    return sum(len(step.calls) for step in steps)


def remove(order: Order, services: Services, found: Existing) -> int:
    """Remove everything of the deployment. Returns how many calls were sent."""
    return carry_out(order, services, reconcile.removal(order.description, found))


def carry_out(order: Order, services: Services, steps: Iterable[Step]) -> int:
    """Send the calls of steps that need no wanted state."""
    count = 0
    for step in steps:
        _run(order, services, step, None)
        count += len(step.calls)
    return count


def _run(order: Order, services: Services, step: Step, wanted: Desired | None) -> None:
    if not step.calls:
        return
    order.say(step.line)
    for call in step.calls:
        try:
            services.send(call)
        except Missing as error:
            if step.action is not Action.DELETE:
                raise DeployError(f"{call.operation}: {error}") from error
    if step.wait:
        _wait(order, services, step, wanted)


def _wait(order: Order, services: Services, step: Step, wanted: Desired | None) -> None:
    """Wait for the end of a step. Raises DeploymentFailed when it is not the wanted one."""
    description = order.description
    component = step.kind == "inference component"
    if step.action in (Action.DELETE, Action.REPLACE):
        if component:
            waiting.gone(order, step.kind, lambda: existing.read_component(description, services))
        else:
            waiting.gone(order, step.kind, lambda: existing.read_endpoint(description, services))
        return
    if component:
        copy = waiting.settled_component(order, services)
        if copy is None or copy.status != IN_SERVICE:
            raise _failed(order, services, step, copy.failure if copy is not None else "it is gone")
        return
    endpoint = waiting.settled_endpoint(order, services)
    if endpoint is None or endpoint.status != IN_SERVICE:
        raise _failed(order, services, step, endpoint.failure if endpoint is not None else "it is gone")
    if wanted is not None and endpoint.config != wanted.config_name:
        raise _failed(order, services, step, f"the update was rolled back: {endpoint.failure or 'no reason given'}")


def _failed(order: Order, services: Services, step: Step, reason: str) -> DeployError:
    line = logs.first_fatal(services, order.description.name)
    return failure.of(step.resource, reason, line, kept=order.keep)


def _clean(order: Order, services: Services, wanted: Desired, done: list[Step], error: DeployError) -> None:
    """Remove what serves nothing after a failure. A failure of the cleaning is added to the first one."""
    order.say("cleaning up; pass --keep to look at what was created")
    try:
        found = existing.read(order.description, services)
        endpoint = found.endpoint
        if endpoint is not None and not endpoint.settled:
            return
        if endpoint is None or endpoint.status in reconcile.BROKEN:
            steps = list(reconcile.removal(order.description, found))
        else:
            steps = list(reconcile.unused(order.description, found, reconcile.kept_after_failure(found, wanted)))
        carry_out(order, services, [*steps, *_created_bucket(done)])
    except DeployError as second:
        error.args = (f"{error}\ncleaning up failed too: {second}; run down to remove what is left",)


def _created_bucket(done: list[Step]) -> Iterable[Step]:
    for step in done:
        if step.kind == "bucket":
            yield planning.end_of_bucket(step.name)
