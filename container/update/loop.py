"""The loop: the steps of an update in order, resumed from the record. A failed step leaves the serving version."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import judge
from .build import build
from .engine import Engine
from .errors import StepFailed
from .gate import measure
from .record import Record, Update
from .settings import Settings
from .watch import Arrival

log = logging.getLogger("slipway.update")

PROMOTED, REJECTED = "promoted", "rejected"
BEFORE_THE_ENGINE = {"build", "gate"}
"""Steps that change nothing on the engine."""
Build = Callable[[Settings, Path, str], dict[str, Any]]
Measure = Callable[[Settings, Path, tuple[str, Path] | None], dict[str, Any]]


@dataclass(slots=True)
class Loop:
    """Updates of one model. ``build`` and ``measure`` make the artifact and the evidence of the gate."""

    settings: Settings
    record: Record
    engine: Engine
    build: Build = build
    measure: Measure = measure

    def unfinished(self) -> Update | None:
        """The update that a loop before this one did not end."""
        return next((one for one in self.record.updates if not one.outcome), None)

    def known(self, arrival: Arrival) -> bool:
        """Whether this content was tried before, whatever became of it."""
        return any(one.found["digest"] == arrival.digest for one in self.record.updates)

    def begin(self, arrival: Arrival) -> Update:
        """Record a candidate under the next version."""
        before = self.engine.serving()
        numbers = [int(one.version) for one in self.record.updates if one.version.isdecimal()]
        if before is not None and before[0].isdecimal():
            numbers.append(int(before[0]))
        version = str(max(numbers, default=0) + 1)
        found = {
            "source": str(arrival.path),
            "digest": arrival.digest,
            "serving": before[0] if before is not None else None,
            "serving_artifact": self._serving_artifact(before),
        }
        return self.record.begin(f"{version}-{arrival.digest[:12]}", version, found)

    def run(self, update: Update) -> str:
        """Do the steps that are left. Returns the outcome. Raises Unreachable, after which it may be called again."""
        try:
            for step, act in self._steps(update):
                evidence = update.done.get(step)
                if evidence is None:
                    self.record.started(update, step)
                    log.info("step begins update=%s step=%r", update.identity, step)
                    evidence = act()
                    self.record.did(update, step, evidence)
                refused = judge.of_step(step, evidence)  # also of a step after which the loop was killed
                if refused:
                    raise StepFailed(refused)
        except StepFailed as failure:
            return self._reject(update, str(failure))
        self.record.end(update, PROMOTED, f"version {update.version} answers", {})
        log.info("promoted update=%s version=%s", update.identity, update.version)
        return PROMOTED

    def _reject(self, update: Update, reason: str) -> str:
        log.warning("rejected update=%s reason=%r", update.identity, reason)
        evidence: dict[str, Any] = {}
        if update.began - BEFORE_THE_ENGINE:
            try:
                evidence = self.engine.withdraw(update.version)
            except StepFailed as failure:
                evidence = {"failed": str(failure)}
        self.record.end(update, REJECTED, reason, {"withdrawn": evidence})
        return REJECTED

    def _steps(self, update: Update) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
        settings, engine, version = self.settings, self.engine, update.version
        artifact = settings.artifact(version)
        steps: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            ("build", lambda: self.build(settings, Path(update.found["source"]), version)),
            ("gate", lambda: self._gate(update)),
            ("load", lambda: engine.load(version, artifact)),
        ]
        if update.found["serving"] is not None:  # else the first version answers as soon as it is loaded
            if settings.shadow_requests:
                steps.append(("shadow", lambda: engine.shadow(version)))
            steps += [(f"canary {percent:g}", partial(engine.canary, version, percent)) for percent in settings.canary]
            steps.append(("promote", lambda: engine.promote(version)))
        steps.append(("publish", lambda: engine.publish(version, artifact)))
        return steps

    def _gate(self, update: Update) -> dict[str, Any]:
        if not self.settings.held_out:
            return {"skipped": "there are no --held-out rows"}
        against = update.found["serving_artifact"]
        pair = (str(update.found["serving"]), Path(against)) if against else None
        return self.measure(self.settings, self.settings.artifact(update.version), pair)

    def _serving_artifact(self, before: tuple[str, Path | None] | None) -> str | None:
        """The artifact that the gate compares with: as given, as the engine says, or the last that was promoted."""
        if before is None:
            return None
        if self.settings.serving:
            return self.settings.serving
        if before[1] is not None:
            return str(before[1])
        promoted = [one for one in self.record.updates if one.outcome == PROMOTED]
        return str(self.settings.artifact(promoted[-1].version)) if promoted else None
