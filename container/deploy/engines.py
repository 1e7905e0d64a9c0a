"""The table of engines: name to the commands that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .errors import DeployError
from .order import Order

Command = Callable[[Order], None]
"""Runs an order and says the result. Raises DeployError."""


def _sagemaker() -> Mapping[str, Command]:
    try:
        import boto3  # noqa: F401
    except ModuleNotFoundError as error:
        raise DeployError("the engine sagemaker needs boto3: install the extra deploy") from error
    from .sagemaker.engine import COMMANDS
    from .sagemaker.template import template

    return {**COMMANDS, "template": template}


def _kubernetes() -> Mapping[str, Command]:
    from .kubernetes.engine import COMMANDS

    return COMMANDS


def _local() -> Mapping[str, Command]:
    from .local.engine import COMMANDS

    return COMMANDS


def _ray() -> Mapping[str, Command]:
    from .ray.engine import COMMANDS

    return COMMANDS


ENGINES: Mapping[str, Callable[[], Mapping[str, Command]]] = {
    "sagemaker": _sagemaker,
    "kubernetes": _kubernetes,
    "local": _local,
    "ray": _ray,
}


def run(order: Order) -> None:
    """Run an order on its engine. Raises DeployError."""
    name = order.description.engine
    commands = ENGINES[name]()
    if order.command not in commands:
        raise DeployError(f"the engine {name} has no {order.command}; it has {', '.join(commands)}")
    commands[order.command](order)
