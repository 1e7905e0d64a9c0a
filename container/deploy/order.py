"""An order: one command with its description, as the command line gave it to an engine."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .defaults import Facts
from .description import Description


def say(line: str) -> None:
    """One line of progress or result."""
    print(line, flush=True)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time in seconds and the pause between two looks, which tests replace."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Order:
    """``facts``: the model and the plan that defaults came from. Options that a command does not take keep defaults.

    ``purpose``: the command that ``plan`` is the plan of. ``timeout_s``: longest wait for a final state. ``poll_s``:
    pause between two looks.
    """

    command: str
    description: Description
    facts: Facts = field(default_factory=Facts)
    json: bool = False
    keep: bool = False
    from_registry: bool = False
    body: Path | None = None
    content_type: str = "application/json"
    target_model: str | None = None
    lines: int = 50
    purpose: str = "up"
    version: int | None = None
    reject: bool = False
    reason: str = ""
    for_role: bool = False
    out: Path | None = None
    timeout_s: float = 3_600.0
    poll_s: float = 15.0
    clock: Clock = field(default_factory=Clock)
    say: Callable[[str], None] = say
    observe: Callable[[Any], None] = lambda _: None
    """Gets every call before it is sent."""

    @property
    def effect(self) -> str:
        """The command that is carried out, or that ``plan`` is the plan of."""
        return self.purpose if self.command == "plan" else self.command

    def show(self, document: Mapping[str, Any]) -> None:
        """Print a document: with ``--json`` as it is, else a line for each member that has a value."""
        if self.json:
            self.say(json.dumps(document, indent=2))
            return
        for name, value in document.items():
            if value not in (None, [], {}, "") and value is not False:
                self.say(f"{name:<14} {_words(value)}")


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_words(one)}" for name, one in value.items())
    return "; ".join(map(_words, value)) if isinstance(value, list) else str(value)
