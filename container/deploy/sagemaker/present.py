"""The deployment as it is: the endpoint by its name, its kind from its configuration, and what ``status`` prints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..errors import NotThere
from ..order import Order
from . import existing
from .existing import Config, Endpoint, Existing
from .services import Missing, Services


@dataclass(frozen=True, slots=True)
class Present:
    """The endpoint in the account, its configuration, and the order with the kind that these have."""

    order: Order
    endpoint: Endpoint
    config: Config


def find(order: Order, services: Services) -> Present | None:
    """The endpoint of the order's name, or None."""
    endpoint = existing.read_endpoint(order.description, services)
    if endpoint is None:
        return None
    try:
        config = existing.read_config(endpoint.config, None, services)
    except Missing:  # somebody deleted it; the endpoint goes on serving
        config = Config(endpoint.config, None, ("",))
    components = not config.models
    description = replace(order.description, inference_component=components)
    return Present(replace(order, description=description), endpoint, config)


def require(order: Order, services: Services) -> Present:
    """The endpoint of the order's name. Raises NotThere, and InvalidDescription for one with several variants."""
    found = find(order, services)
    if found is None:
        raise NotThere(f"there is no endpoint {order.description.name} in {services.region}: run up first")
    existing.require_one_variant(order.description, found.endpoint)
    return found


def document(present: Present, found: Existing) -> dict[str, Any]:
    """What ``status --json`` prints."""
    endpoint = present.endpoint
    others = sorted((one.created, name) for name, one in found.configs.items() if name != endpoint.config)
    return {
        "name": present.order.description.name,
        "endpoint": endpoint.status,
        "failure": endpoint.failure or None,
        "configuration": endpoint.config,
        "models": list(present.config.models) or [found.component.model if found.component is not None else None],
        "kind": _kind(present),
        "instance_type": present.config.instance_type or None,
        "instances": endpoint.instances,
        "component": found.component.status if found.component is not None else None,
        "copies": found.component.copies if found.component is not None else None,
        "shadow": present.config.shadow,
        "scaling": list(found.scaling) if found.scaling is not None else None,
        "target": (found.policy or {}).get("TargetValue"),
        "previous": others[-1][1] if others else None,
        "alarms": dict(found.alarms),
    }


def _kind(present: Present) -> str:
    if present.config.serverless:
        return "serverless"
    if present.order.description.inference_component:
        return "inference component"
    return "asynchronous" if present.config.asynchronous else "real-time"
