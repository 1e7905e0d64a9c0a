"""The filters of a transform job: the JSONPath operators that the platform documents, over parsed records.

Names, indices, slices, and lists of names or of indices. A list of names keeps the names: ``$['id','score']`` of an
object is an object.
"""

from __future__ import annotations

from typing import Any

import jsonpath
from jsonpath.segments import JSONPathChildSegment
from jsonpath.selectors import IndexSelector, NameSelector, SliceSelector

MAX_CHARACTERS = 63

Step = str | int | slice | list[str | int]

_GRAMMAR = jsonpath.JSONPathEnvironment(strict=True)


class InvalidPath(ValueError):
    """The path cannot be parsed, or selects nothing; the message says where."""


def parse(path: str) -> list[Step]:
    """The steps of a path from the root ``$``. Raises InvalidPath."""
    if len(path) > MAX_CHARACTERS:
        raise InvalidPath(f"{path[:20]}... has {len(path)} characters; a filter may have {MAX_CHARACTERS}")
    try:
        # The platform's documentation also writes a dot before a bracket.
        query = _GRAMMAR.compile(path.replace(".[", "["))
    except jsonpath.JSONPathError as error:
        raise InvalidPath(f"{path!r} is no JSONPath: {str(error).splitlines()[0]}") from error
    if not isinstance(query, jsonpath.JSONPath):
        raise InvalidPath(f"{path!r}: a filter is one path from $")
    return [_step(path, segment) for segment in query.segments]


def _step(path: str, segment: Any) -> Step:
    keys: list[str | int] = []
    for selector in segment.selectors if isinstance(segment, JSONPathChildSegment) else [segment]:
        if isinstance(selector, SliceSelector) and len(segment.selectors) == 1:
            return selector.slice
        if isinstance(selector, NameSelector):
            keys.append(selector.name)
        elif isinstance(selector, IndexSelector):
            keys.append(selector.index)
        else:
            raise InvalidPath(f"{path!r}: a filter takes names, indices, slices, and lists of names or of indices")
    return keys[0] if len(keys) == 1 else keys


def pick(value: Any, steps: list[Step]) -> Any:
    """The selected part of ``value``. Raises InvalidPath when a step selects nothing."""
    for step in steps:
        try:
            value = _pick(value, step)
        except (KeyError, IndexError, TypeError) as error:
            raise InvalidPath(f"{step!r} is not in {str(value)[:80]}") from error
    return value


def _pick(value: Any, step: Any) -> Any:
    if isinstance(step, list):
        return {key: value[key] for key in step} if isinstance(value, dict) else [_pick(value, key) for key in step]
    if not isinstance(value, dict if isinstance(step, str) else list):
        raise KeyError(step)
    return value[step]
