"""The verdict on each stage and on the whole run, and the text table. Nothing here runs anything."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .record import Found

PASSED, REHEARSED, FAILED, NOT_RUN, CRASHED, TIMED_OUT = (
    "passed", "rehearsed", "FAILED", "not run", "CRASHED", "TIMED OUT",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One stage of a run. ``status`` is one of the words above; ``why`` explains every word but the first two."""

    name: str
    status: str
    why: str
    took_s: float
    found: Found
    optional: bool = False


def judge(found: Found, exit_code: int | None, device: str, said: str) -> tuple[str, str]:
    """Status and reason of a stage. ``exit_code`` is None if it was killed at its limit; ``said`` is its stderr."""
    failed = [check for check in found.checks if check.passed is False]
    if failed:
        return FAILED, "; ".join(f"{check.name}: {check.detail}" for check in failed)
    if exit_code is None:
        return TIMED_OUT, "killed at its time limit"
    if exit_code or not found.ended:
        return CRASHED, f"exit code {exit_code}: {last_line(said)}"
    if found.not_run:
        return NOT_RUN, found.not_run
    if not any(check.passed for check in found.checks) and device != "fake":
        return FAILED, "it checked nothing"
    if device == "cuda":
        return PASSED, ""
    return REHEARSED, f"on {device}: no proof for a GPU"


def last_line(text: str) -> str:
    """The last line of a process's stderr that says something: that of an exception, or the very last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Failed|Fault)\b", line)]
    return (errors or lines or ["it said nothing"])[-1][:600]


def exit_code(results: Sequence[Result]) -> int:
    """0: every stage passed, or was rehearsed; 1: one failed; 2: none failed, but one that counts did not run."""
    if any(one.status in (FAILED, CRASHED, TIMED_OUT) for one in results):
        return 1
    return 2 if any(one.status == NOT_RUN and not one.optional for one in results) else 0


def table(results: Sequence[Result], device: str, total_s: float) -> str:
    """All that was found, for a terminal and for a report."""
    lines = []
    for one in results:
        lines.append(f"{one.status:<10} {one.name:<12} {one.took_s:6.1f} s  {one.why}".rstrip())
        for name, value in one.found.facts.items():
            lines.append(f"             {name}: {value}")
        lines += [
            f"             [{MARKS[c.passed]}] {c.name}{': ' if c.detail else ''}{c.detail}" for c in one.found.checks
        ]
        lines += [f"             {f.name:<52} {number(f.value):>12} {f.unit}" for f in one.found.figures]
    counts = {
        status: sum(one.status == status for one in results) for status in dict.fromkeys(r.status for r in results)
    }
    said = ", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing ran"
    lines.append(f"{len(results)} stages on {device}: {said}; {total_s:.0f} s")
    return "\n".join(lines) + "\n"


MARKS = {True: "ok", False: "NO", None: "not judged"}


def number(value: float) -> str:
    """Four significant digits, and no exponent where a reader does not want one."""
    if value == 0 or 0.001 <= abs(value) < 1e7:
        digits = 0 if abs(value) >= 1000 else 3 if abs(value) < 10 else 1
        return f"{value:,.{digits}f}"
    return f"{value:.3g}"
