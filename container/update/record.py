"""The record of the updates: one line of JSON for each event, written to the disk before the next step begins.

It is the only state of the loop. After the loop was killed, the next one reads it and goes on with the first step that
is not done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import UpdateError

NAME = "record.jsonl"
Evidence = Mapping[str, Any]


@dataclass(slots=True)
class Update:
    """The update to one candidate: its steps that are done, with their evidence, and how it ended."""

    identity: str
    version: str
    found: Evidence
    began: set[str] = field(default_factory=set)
    done: dict[str, Evidence] = field(default_factory=dict)
    outcome: str = ""
    """``promoted``, ``rejected``, or empty while it goes on."""
    reason: str = ""


@dataclass(slots=True)
class Record:
    """The record in a folder. ``now`` gives the time of a line."""

    path: Path
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    updates: list[Update] = field(default_factory=list)

    def begin(self, identity: str, version: str, found: Evidence) -> Update:
        """A candidate was found."""
        self._write(identity, "found", "done", {"version": version, **found})
        update = Update(identity, version, found)
        self.updates.append(update)
        return update

    def started(self, update: Update, step: str) -> None:
        """A step begins, for the first time or again."""
        self._write(update.identity, step, "began", {})
        update.began.add(step)

    def did(self, update: Update, step: str, evidence: Evidence) -> None:
        """A step is done."""
        self._write(update.identity, step, "done", evidence)
        update.done[step] = evidence

    def end(self, update: Update, outcome: str, reason: str, evidence: Evidence) -> None:
        """The update has ended."""
        self._write(update.identity, "end", outcome, {"reason": reason, **evidence})
        update.outcome, update.reason = outcome, reason

    def _write(self, identity: str, step: str, event: str, evidence: Evidence) -> None:
        line = {
            "time": self.now().isoformat(timespec="milliseconds"),
            "update": identity,
            "step": step,
            "event": event,
            "evidence": evidence,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def opened(path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Record:
    """The record of a file, which may not exist yet. A last line that was cut off is removed.

    Raises UpdateError for a file that is no record.
    """
    record = Record(path, now)
    if not path.exists():
        return record
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as stream:
            stream.truncate(len(whole))
    known: dict[str, Update] = {}
    for number, text in enumerate(whole.splitlines(), 1):
        try:
            line = json.loads(text)
            identity, step, event, evidence = line["update"], line["step"], line["event"], line["evidence"]
            if step == "found":
                known[identity] = Update(identity, evidence["version"], evidence)
                record.updates.append(known[identity])
            elif step == "end":
                known[identity].outcome, known[identity].reason = event, evidence["reason"]
            elif event == "began":
                known[identity].began.add(step)
            elif event == "done":
                known[identity].done[step] = evidence
        except (ValueError, KeyError, TypeError) as error:
            raise UpdateError(f"{path} line {number} is no line of a record: {error!r}") from error
    return record
