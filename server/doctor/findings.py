"""Findings: three levels, one line each, and the last line that names the first fatal cause."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass

from .. import fatal


class Level(enum.Enum):
    OK = "ok"
    WARN = "warn"
    FATAL = "FATAL"


@dataclass(frozen=True, slots=True)
class Finding:
    """``subject`` is the checked thing in one word; ``text`` the result; ``advice`` the remedy."""

    level: Level
    subject: str
    text: str
    advice: str = ""

    @property
    def line(self) -> str:
        return self.text + (f"; {self.advice}" if self.advice else "")


def ok(subject: str, text: str) -> Finding:
    return Finding(Level.OK, subject, text)


def warn(subject: str, text: str, advice: str) -> Finding:
    return Finding(Level.WARN, subject, text, advice)


def stop(subject: str, text: str, advice: str = "") -> Finding:
    """A fatal finding. ``advice`` is empty where the text of an error already names the remedy."""
    return Finding(Level.FATAL, subject, text, advice)


def verdict(findings: Sequence[Finding]) -> tuple[int, str]:
    """Exit code and last line."""
    first = next((one for one in findings if one.level is Level.FATAL), None)
    if first is not None:
        return 1, fatal.MARK + first.line
    warnings = sum(one.level is Level.WARN for one in findings)
    return 0, f"can serve: {len(findings) - warnings} checks passed, {warnings} warnings"


def as_text(findings: Sequence[Finding]) -> str:
    """Lines for people."""
    rows = [f"{one.level.value:<6}{one.subject:<10}{one.line}" for one in findings]
    return "\n".join([*rows, verdict(findings)[1]])


def as_json(findings: Sequence[Finding]) -> str:
    """JSON for programs: ``ok``, ``fatal`` (the first cause, or null) and ``checks``."""
    code, last = verdict(findings)
    checks = [
        {"check": one.subject, "level": one.level.value.lower(), "text": one.text, "advice": one.advice}
        for one in findings
    ]
    return json.dumps({"ok": code == 0, "fatal": last.removeprefix(fatal.MARK) if code else None, "checks": checks})
