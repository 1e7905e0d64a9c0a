"""The check of calls against botocore's model of their service, before any of them is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from .calls import Call
from .errors import InvalidDescription

UNICODE_CLASSES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{M}": r"\w",
    r"\p{Z}": r"\s",
    r"\p{P}": r"!-/:-@\[-`{-~",
    r"\p{S}": r"$+<=>^`|~",
}
"""The classes of the model's patterns in the syntax of Python, inside of brackets."""


def check(calls: Iterable[Call]) -> None:
    """Raises InvalidDescription with everything that the services' models refuse."""
    found = [f"{call.service} {call.operation}: {problem}" for call in calls for problem in problems(call)]
    if found:
        raise InvalidDescription("\n".join(found))


def problems(call: Call) -> list[str]:
    """The reasons why the service's model refuses a call: names, types, required members, lengths, patterns, values."""
    from botocore.validate import ParamValidator

    shape = _input_shape(call.service, call.operation)
    report = ParamValidator().validate(dict(call.parameters), shape)
    if report.has_errors():
        return str(report.generate_report()).splitlines()
    return list(_constraints(dict(call.parameters), shape, ""))


@cache
def _input_shape(service: str, operation: str) -> Any:
    import botocore.session
    from botocore.exceptions import UnknownServiceError
    from botocore.model import OperationNotFoundError

    try:
        model = botocore.session.get_session().get_service_model(service)
        return model.operation_model(operation).input_shape
    except (UnknownServiceError, OperationNotFoundError) as error:
        raise InvalidDescription(
            f"this boto3 knows no {service} {operation}: install boto3 of the deploy extra"
        ) from error


def _constraints(value: Any, shape: Any, where: str) -> Iterator[str]:
    """What ParamValidator leaves out: patterns, allowed values, longest texts, most items."""
    if shape.type_name == "structure":
        for name, one in value.items():
            yield from _constraints(one, shape.members[name], f"{where}.{name}".lstrip("."))
    elif shape.type_name == "map":
        yield from _size(len(value), shape, where, "entries")
        for name, one in value.items():
            yield from _constraints(name, shape.key, f"{where} {name[:40]!r}")
            yield from _constraints(one, shape.value, f"{where}.{name[:40]}")
    elif shape.type_name == "list":
        yield from _size(len(value), shape, where, "items")
        for place, one in enumerate(value):
            yield from _constraints(one, shape.member, f"{where}[{place}]")
    elif shape.type_name == "string":
        yield from _text(value, shape, where)
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _size(value, shape, where, "")


def _size(count: float, shape: Any, where: str, unit: str) -> Iterator[str]:
    least, most = shape.metadata.get("min", count), shape.metadata.get("max", count)
    if not least <= count <= most:
        bounds = f"from {least} to {most}" if "max" in shape.metadata else f"at least {least}"
        yield f"{where} is {count:g}{' ' * bool(unit)}{unit}; the service takes {bounds}"


def _text(value: str, shape: Any, where: str) -> Iterator[str]:
    yield from _size(len(value), shape, where, "characters")
    if shape.enum and value not in shape.enum:
        yield f"{where} is {value[:60]!r}; the service takes {_choice(value, shape.enum)}"
    pattern = _pattern(shape.metadata.get("pattern", ""))
    if pattern is not None and not pattern.fullmatch(value):
        yield f"{where} is {value[:60]!r}; the service takes {shape.metadata['pattern']}"


def _choice(value: str, allowed: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(value, allowed, 5, 0.5) if len(allowed) > 12 else allowed
    return "one of " + ", ".join(near or allowed[:12]) + (" and others" if len(near) < len(allowed) else "")


@cache
def _pattern(text: str) -> re.Pattern[str] | None:
    """A pattern of the model in Python; None where it has none, or one that Python does not read."""
    if not text:
        return None
    for unicode_class, ours in UNICODE_CLASSES.items():
        text = text.replace(unicode_class, ours)
    try:
        return re.compile(text)
    except re.error:
        return None
