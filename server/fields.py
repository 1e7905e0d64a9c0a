"""The fields of a manifest: values of a JSON object, each checked for its kind and named in the error."""

from __future__ import annotations

import math
from typing import Any, TypeVar, cast

from .errors import BrokenArtifact

MANIFEST = "manifest.json"

Kind = TypeVar("Kind")
KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    str: ((str,), "text"),
    int: ((int,), "a whole number, {} or more"),
    float: ((float, int), "a number, {} or more"),
    list: ((list,), "a list"),
    dict: ((dict,), "an object"),
}
"""Types of a field: the Python types that JSON gives, and their description. A bool is no number."""


def take(row: dict[str, Any], name: str, kind: type[Kind], default: Kind | None = None, least: int = 0) -> Kind:
    """A field of a JSON object. Raises BrokenArtifact, naming it, when it is missing or not of that kind."""
    if name not in row and default is None:
        raise BrokenArtifact(f"{MANIFEST} lacks the field {name!r}")
    return _checked(row.get(name, default), name, kind, least)


def each(
    row: dict[str, Any], name: str, kind: type[Kind], default: list[Any] | None = None, least: int = 0
) -> list[Kind]:
    """A field that is a list of values of one kind."""
    return [_checked(value, name, kind, least) for value in take(row, name, list, default)]


def _checked(value: Any, name: str, kind: type[Kind], least: int) -> Kind:
    kinds, what = KINDS[kind]
    fits = type(value) in kinds and (kind not in (int, float) or least <= value < math.inf)
    if not fits:
        raise BrokenArtifact(f"{MANIFEST}: {name!r} must be {what.format(least)}, got {repr(value)[:80]}")
    return cast(Kind, value)
