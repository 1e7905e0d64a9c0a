"""A plan: the steps from what exists to what is described, each with the exact calls that it takes."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .calls import Call
from .description import SETTINGS, Description


class Action(Enum):
    """What happens to a resource."""

    NOTHING = "nothing"
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Step:
    """One resource, what happens to it, the calls for that, and why. ``wait``: the calls take effect later."""

    action: Action
    kind: str
    name: str
    calls: tuple[Call, ...] = ()
    why: str = ""
    wait: bool = False

    @property
    def resource(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def line(self) -> str:
        return f"{self.action.value:<8} {self.resource}" + (f": {self.why}" if self.why else "")

    def to_json(self) -> dict[str, str]:
        return {"action": self.action.value, "kind": self.kind, "name": self.name, "why": self.why}


@dataclass(frozen=True, slots=True)
class Plan:
    """``unknown``: why the existing state could not be read; "" where it was read. ``used``: the settings that the
    engine reads, where it reads few. ``assumed``: the state that the plan assumes where it is unknown.
    """

    description: Description
    steps: tuple[Step, ...]
    unknown: str = ""
    used: Collection[str] = tuple(SETTINGS)
    assumed: str = "the plan is for the case that nothing exists"

    def settings(self) -> dict[str, Any]:
        """The settings that have a value and matter."""
        return {name: value for name, value in self.description.shown().items() if name in self.used}

    @property
    def calls(self) -> list[Call]:
        return [call for step in self.steps for call in step.calls]

    def to_json(self) -> dict[str, Any]:
        return {
            "engine": self.description.engine,
            "name": self.description.name,
            "existing": f"unknown: {self.unknown}" if self.unknown else "known",
            "settings": {
                name: {"value": value, "source": self.description.source(name)}
                for name, value in self.settings().items()
            },
            "changes": [step.to_json() for step in self.steps],
            "calls": [call.to_json() for call in self.calls],
        }

    def as_json(self) -> str:
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False)

    def as_text(self) -> str:
        """For people: settings with their origin, changes, and commands."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.description.name} on {self.description.engine}"
        for name, value in self.settings().items():
            yield f"  {name:<24} {_short(value):<44} {self.description.source(name)}"
        yield ""
        if self.unknown:
            yield f"existing state unknown: {self.unknown}"
            yield self.assumed
        for step in self.steps:
            yield step.line
        yield ""
        yield from (call.command() for call in self.calls)
        if not self.calls:
            yield "no call is necessary"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return ", ".join(value) if isinstance(value, tuple) else str(value)
