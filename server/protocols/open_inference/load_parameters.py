"""The parameters of a load call: which fields of Triton's model configuration it changes for one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ...artifact import Overrides
from ...errors import MalformedInput

LARGEST_BATCH, MOST_INSTANCES, LONGEST_DELAY_US = 65_536, 64, 60_000_000
"""Bounds of what a call may ask for; beyond them a load takes the machine."""

CONFIGURATION = "config"
KNOWN = (CONFIGURATION, "unload_dependents")
KINDS = ("", "KIND_AUTO")
"""Kinds of instances that leave the device to the server's settings."""


def read_overrides(parameters: Mapping[str, Any], current: Mapping[str, Any], name: str) -> Overrides:
    """The overrides of a call for the model ``name``.

    ``current``: the configuration document of the model, empty where it is not loaded. A field may also repeat what
    stands there. Raises MalformedInput, naming the field, for all else that is not honoured.
    """
    require_known(parameters)
    if CONFIGURATION not in parameters:
        return Overrides()
    config = parsed_config(parameters[CONFIGURATION])
    document = {"name": name, **current}
    batch = config.pop("max_batch_size", None)
    groups, batching = config.pop("instance_group", None), config.pop("dynamic_batching", None)
    _require_same(config, document, "")
    return Overrides(
        None if batch is None else _number(batch, "max_batch_size", LARGEST_BATCH),
        None if groups is None else _instances(groups, document.get("instance_group", [])),
        None if batching is None else _delay_us(batching, document.get("dynamic_batching", {})),
    )


def require_known(names: Iterable[str]) -> None:
    """Raises MalformedInput for a parameter that no load has."""
    for name in names:
        if name not in KNOWN:
            raise MalformedInput(f"the parameter {name[:40]!r} is not known; a load takes config and file:VERSION/NAME")


def parsed_config(text: Any) -> dict[str, Any]:
    """The parameter ``config``: a text with a JSON object. Raises MalformedInput."""
    try:
        config = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError as error:
        raise MalformedInput(f"the parameter config is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise MalformedInput("the parameter config must be a text with one JSON object, a model configuration")
    return config


def _require_same(given: Mapping[str, Any], current: Mapping[str, Any], prefix: str) -> None:
    """Raises MalformedInput for a field that is neither empty nor what it is now."""
    for key, value in given.items():
        if value and value != current.get(key):
            raise MalformedInput(
                f"config: the field {(prefix + key)[:60]!r} cannot be changed by a load; remove it. Changed may be "
                "max_batch_size, instance_group.count and dynamic_batching.max_queue_delay_microseconds"
            )


def _number(value: Any, field: str, most: int, least: int = 0) -> int:
    """A whole number, also as digits, as protocol buffers write it. Raises MalformedInput."""
    text = str(value)
    digits = type(value) in (int, str) and text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not digits or not least <= int(text) <= most:
        raise MalformedInput(f"config: {field} must be a whole number from {least} to {most}, got {text[:40]!r}")
    return int(text)


def _instances(groups: Any, current: list[Any]) -> int:
    """The number of instances of all groups together."""
    if not isinstance(groups, list) or not groups or not all(isinstance(one, dict) for one in groups):
        raise MalformedInput("config: instance_group must be a list of objects, each with a count")
    now = current[0] if current else {}
    total = 0
    for group in groups:
        rest = {key: value for key, value in group.items() if key != "count" and value not in KINDS}
        _require_same(rest, now, "instance_group.")
        total += _number(group.get("count", 1), "instance_group.count", MOST_INSTANCES, least=1)
    return _number(total, "instance_group.count", MOST_INSTANCES, least=1)


def _delay_us(batching: Any, current: Mapping[str, Any]) -> int:
    if not isinstance(batching, dict):
        raise MalformedInput("config: dynamic_batching must be an object")
    field = "max_queue_delay_microseconds"
    _require_same({key: value for key, value in batching.items() if key != field}, current, "dynamic_batching.")
    return _number(batching.get(field, 0), f"dynamic_batching.{field}", LONGEST_DELAY_US)
