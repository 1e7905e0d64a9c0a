"""The part of JSONPath that the filters of a transform job take: names, indices, slices and lists of either."""

from __future__ import annotations

import re
from typing import Any

LONGEST = 63

_STEP = re.compile(r"\.(?P<name>[A-Za-z_][\w-]*)|\[(?P<inside>[^\]]+)\]")
_SLICE = re.compile(r"(-?\d*):(-?\d*)")
_INDEX = re.compile(r"-?\d+")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")

Step = tuple[str, Any]


class BadPath(ValueError):
    """The path cannot be read, or points to nothing; the message says where."""


def parse(path: str) -> list[Step]:
    """The steps of a path from the root ``$``. Raises BadPath."""
    if len(path) > LONGEST:
        raise BadPath(f"{path[:20]}... has {len(path)} characters; a filter may have {LONGEST}")
    if not path.startswith("$"):
        raise BadPath(f"{path!r} does not begin with $")
    steps: list[Step] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            raise BadPath(f"{path!r} cannot be read from character {at + 1}: {path[at:]!r}")
        steps.append(("one", found["name"]) if found["name"] else _bracket(path, found["inside"]))
        at = found.end()
    return steps


def pick(value: Any, steps: list[Step]) -> Any:
    """What a path points to. A list of names keeps them as an object. Raises BadPath."""
    for kind, what in steps:
        try:
            if kind == "slice":
                if not isinstance(value, list):
                    raise BadPath("a slice needs a list")
                value = value[what]
            elif kind == "one":
                value = _child(value, what)
            elif isinstance(value, dict):
                value = {name: value[name] for name in what}
            else:
                value = [_child(value, index) for index in what]
        except (KeyError, IndexError, TypeError) as error:
            raise BadPath(f"{what!r} is not in {str(value)[:80]}") from error
    return value


def _child(value: Any, key: str | int) -> Any:
    if isinstance(value, dict) != isinstance(key, str):
        raise KeyError(key)
    return value[key]


def _bracket(path: str, inside: str) -> Step:
    if sliced := _SLICE.fullmatch(inside.strip()):
        begin, end = (int(text) if text else None for text in sliced.groups())
        return "slice", slice(begin, end)
    keys = [_key(path, text.strip()) for text in inside.split(",")]
    return ("one", keys[0]) if len(keys) == 1 else ("several", keys)


def _key(path: str, text: str) -> str | int:
    if _INDEX.fullmatch(text):
        return int(text)
    if quoted := _QUOTED.fullmatch(text):
        return quoted[1] if quoted[1] is not None else quoted[2]
    raise BadPath(f"{path!r}: {text!r} is neither a number, nor a slice, nor a name in quotes")
