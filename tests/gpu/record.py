"""The record of one stage: its checks and figures, written to a file after every entry."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


class NotRun(Exception):
    """The stage cannot run here. The message says what is missing."""


@dataclass(slots=True)
class Check:
    """``passed`` is None where the device computes nothing, so that values cannot be judged."""

    name: str
    passed: bool | None
    detail: str


@dataclass(slots=True)
class Figure:
    """A measured number. ``unit`` is written out, such as ``rows/s``."""

    name: str
    value: float
    unit: str


@dataclass(slots=True)
class Found:
    """What a stage has found so far. ``ended``: the stage reached its end."""

    checks: list[Check] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    not_run: str = ""
    ended: bool = False


class Record:
    """Collects what a stage finds. ``computes``: whether the device computes results, so that values can be judged."""

    def __init__(self, path: Path, computes: bool) -> None:
        self._path = path
        self._computes = computes
        self.found = Found()
        self._write()

    def check(self, name: str, passed: bool, detail: object = "", *, of_values: bool = False) -> None:
        """Add a check. ``of_values``: it judges computed values, which is left open where nothing is computed."""
        judged = bool(passed) if self._computes or not of_values else None
        self.found.checks.append(Check(name, judged, str(detail)))
        self._write()

    def figure(self, name: str, value: float, unit: str) -> None:
        self.found.figures.append(Figure(name, float(value), unit))
        self._write()

    def fact(self, name: str, value: Any) -> None:
        """Add something that a reader wants to know and nobody judges: versions, names, messages."""
        self.found.facts[name] = value
        self._write()

    def not_run(self, reason: str) -> None:
        self.found.not_run = reason
        self._write()

    def end(self) -> None:
        self.found.ended = True
        self._write()

    def _write(self) -> None:
        written = self._path.with_suffix(".part")
        written.write_text(json.dumps(asdict(self.found), indent=1, default=str), encoding="utf-8")
        written.replace(self._path)


def read(path: Path) -> Found:
    """The record in a file; an empty one if the stage did not get as far as writing it."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Found()
    return Found(
        [Check(**one) for one in raw["checks"]],
        [Figure(**one) for one in raw["figures"]],
        raw["facts"],
        raw["not_run"],
        raw["ended"],
    )
