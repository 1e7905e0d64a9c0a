"""The commands of the SageMaker engine."""

from __future__ import annotations

from collections.abc import Mapping

from ..engines import Command
from ..order import Order
from . import planning


def plan(order: Order) -> int:
    """Print the plan."""
    made = planning.make(order)
    order.say(made.as_json() if order.json else made.as_text())
    return 0


COMMANDS: Mapping[str, Command] = {"plan": plan}
