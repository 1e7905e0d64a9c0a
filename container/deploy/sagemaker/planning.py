"""Planning: the steps of an order against what exists, each call checked against the service's model."""

from __future__ import annotations

from dataclasses import replace

from .. import service_model
from ..calls import Call
from ..description import Description
from ..errors import Denied, NoCredentials, Throttled, Unreachable
from ..model_source import ModelSource
from ..order import Order
from ..plan import Action, Plan, Step
from . import existing, reconcile, refusals, registry
from .existing import NOTHING
from .reconcile import Desired
from .services import Services

PLAN_ATTEMPTS = 2
"""Attempts of a reading call of ``plan``, which also works without an account."""
UNREADABLE = (NoCredentials, Unreachable, Denied, Throttled)
"""Why the existing state may stay unknown to ``plan``."""


def services(order: Order, attempts: int | None = None) -> Services:
    """The services of the order's region. Raises InvalidDescription without a region."""
    order.description.require("region")
    made = Services(order.description.region, observe=order.observe)
    return replace(made, attempts=attempts) if attempts is not None else made


def checked(order: Order) -> Desired:
    """The desired resources. Raises InvalidDescription for what SageMaker refuses, before anything is sent."""
    refusals.check(order.description, order.facts)
    if order.from_registry:
        order.description.require("role", "name", "group")
        wanted = reconcile.desired_of(order.description, registry.approved_model(order, services(order)))
    else:
        wanted = reconcile.desired(order.description, source_of(order))
    creating = [one.put for one in wanted.uploads]
    service_model.check([*creating, wanted.model, wanted.config])
    return wanted


def source_of(order: Order) -> ModelSource:
    """The model of an order that has one."""
    assert order.facts.source is not None
    return order.facts.source


def make(order: Order) -> Plan:
    """The plan of ``up``. Where the account cannot be read, it is that for an empty one, and says so."""
    wanted = checked(order)
    description = order.description
    found, unknown = NOTHING, ""
    try:
        found = existing.read(description, services(order, PLAN_ATTEMPTS))
    except UNREADABLE as error:
        unknown = str(error)
    return planned(description, wanted, found, unknown)


def planned(description: Description, wanted: Desired, found: existing.Existing, unknown: str = "") -> Plan:
    """The plan from what was read. Raises InvalidDescription for calls that a service's model refuses."""
    made = Plan(description, tuple(reconcile.steps(description, wanted, found)), unknown)
    service_model.check(made.calls)
    return made


def end_of_bucket(name: str) -> Step:
    """The step that removes a bucket which this run created."""
    return Step(Action.DELETE, "bucket", name, (Call("s3", "DeleteBucket", {"Bucket": name}),))
