"""Waiting for an endpoint or an inference component to reach a final state, with a line of progress for each change."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import TookTooLong
from ..order import Order
from .existing import Component, Endpoint, read_component, read_endpoint
from .services import Services

Found = TypeVar("Found", Endpoint, Component)


def settled_endpoint(order: Order, services: Services) -> Endpoint | None:
    """The endpoint in a final state, or None when there is none. Raises TookTooLong."""
    return _settled(order, "endpoint", lambda: read_endpoint(order.description, services))


def settled_component(order: Order, services: Services) -> Component | None:
    """The inference component in a final state, or None when there is none. Raises TookTooLong."""
    return _settled(order, "inference component", lambda: read_component(order.description, services))


def gone(order: Order, what: str, read: Callable[[], Endpoint | Component | None]) -> None:
    """Waits until ``read`` finds nothing. Raises TookTooLong."""
    begun = order.clock.now()
    while read() is not None:
        _pause(order, begun, what, "Deleting")


def _settled(order: Order, what: str, read: Callable[[], Found | None]) -> Found | None:
    begun, last = order.clock.now(), ""
    while True:
        found = read()
        if found is None or found.settled:
            return found
        if found.status != last:
            last = found.status
            order.say(f"{order.clock.now() - begun:6.0f} s  {what} {order.description.name}: {last}")
        _pause(order, begun, what, found.status)


def _pause(order: Order, begun: float, what: str, status: str) -> None:
    waited = order.clock.now() - begun
    if waited >= order.timeout_s:
        raise TookTooLong(
            f"{what} {order.description.name} is still {status} after {waited:.0f} s: "
            f"run {order.command} again to go on waiting, logs to see why, or down to remove it"
        )
    order.clock.sleep(order.poll_s)
