"""The code of a user: models as people write them, each with one habit that costs time.

It imports nothing of this project, because a user's script holds a copy of it. ``make(code)`` builds a model from its
kind, a class of ``computes`` or ``waits`` in lower case, and its parameters; ``predict(body)`` answers one request,
whose body is a decoded JSON object.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from . import computes, waits

KINDS: dict[str, Any] = {
    name.lower(): kind
    for module in (computes, waits)
    for name, kind in inspect.getmembers(module, inspect.isclass)
    if kind.__module__ == module.__name__
}


def make(code: dict[str, Any], folder: Path) -> Any:
    """A model of ``code["kind"]`` with the other entries as parameters. ``folder``: for files that processes share."""
    given = {name: value for name, value in code.items() if name != "kind"}
    kind = KINDS[code["kind"]]
    return kind(**given, folder=folder) if "folder" in inspect.signature(kind).parameters else kind(**given)
