"""The SageMaker engine: the commands of ``container.deploy``, which do the calls, the alarms and the rollback.

The platform's guardrails make one operation of canary and promotion: ``canary`` shifts a part of the traffic, watches
alarms, and then shifts all of it or goes back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import children
from .errors import StepFailed, Unreachable, UpdateError
from .settings import Settings

NOT_THERE = 5
"""The exit code of container.deploy where the endpoint does not exist."""
MOST_OUTPUT = 4_000
Run = Callable[[Sequence[str]], tuple[int, str, str]]


def run(arguments: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of ``python -m container.deploy``."""
    return children.run([sys.executable, "-m", "container.deploy", *arguments])


class SageMakerEngine:
    """Updates one endpoint."""

    def __init__(self, settings: Settings, deploy: Run = run) -> None:
        self._settings = settings
        self._deploy = deploy

    def serving(self) -> tuple[str, Path | None] | None:
        found = self._status()
        return None if found is None else (str(found.get("configuration")), None)

    def load(self, version: str, artifact: Path) -> dict[str, Any]:
        """Upload the model; the first version is deployed at once."""
        return self._command("up" if self.serving() is None else "push", version, artifact)

    def shadow(self, version: str) -> dict[str, Any]:
        return self._command("shadow", version, self._settings.artifact(version))

    def canary(self, version: str, percent: float) -> dict[str, Any]:
        """The platform shifts its own percentage, which is a setting of container.deploy."""
        return {**self._command("canary", version, self._settings.artifact(version)), "percent": percent}

    def promote(self, version: str) -> dict[str, Any]:
        """The canary shifted all traffic: nothing is left to change if the endpoint serves this artifact."""
        calls = self._left(version)
        reason = f"{calls} calls would still change the endpoint" if calls else ""
        return {"version": version, "answers": "before" if calls else version, "reason": reason}

    def publish(self, version: str, artifact: Path) -> dict[str, Any]:
        return self._command("register", version, artifact)

    def withdraw(self, version: str) -> dict[str, Any]:
        """End a shadow, or go back from this version. A canary that failed has gone back by itself."""
        found = self._status()
        if found is None or not (found.get("shadow") or self._left(version) == 0):
            return {"version": version, "configuration": (found or {}).get("configuration")}
        code, output, errors = self._deploy(["rollback", "--name", self._settings.name, *self._settings.deploy])
        if code:
            raise StepFailed(f"container.deploy rollback: {_last(errors)}")
        return {"version": version, "command": "rollback", "exit_code": code, "output": output[-MOST_OUTPUT:]}

    def _status(self) -> dict[str, Any] | None:
        """What ``status`` prints; None without an endpoint. Raises Unreachable."""
        code, output, errors = self._deploy(["status", "--name", self._settings.name, *self._settings.deploy, "--json"])
        if code == NOT_THERE:
            return None
        if code:
            raise Unreachable(f"container.deploy status: {_last(errors)}")
        return _document(output, "status")

    def _left(self, version: str) -> int:
        """How many calls would make the endpoint serve this version: 0 if it does."""
        told = self._command("plan", version, self._settings.artifact(version), "--json")
        calls = _document(told["output"], "plan").get("calls")
        if not isinstance(calls, list):
            raise UpdateError("container.deploy plan printed no calls")
        return len(calls)

    def _command(self, command: str, version: str, artifact: Path, *more: str) -> dict[str, Any]:
        """Run a command that has to succeed; what it printed is evidence. Raises StepFailed."""
        arguments = [command, str(artifact.resolve()), "--name", self._settings.name, *self._settings.deploy, *more]
        code, output, errors = self._deploy(arguments)
        if code:
            raise StepFailed(f"container.deploy {command}: {_last(errors)}")
        kept = output if more else output[-MOST_OUTPUT:]
        return {"version": version, "command": command, "exit_code": code, "output": kept}


def _last(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _document(output: str, command: str) -> dict[str, Any]:
    try:
        document = json.loads(output)
    except ValueError as error:
        raise UpdateError(f"container.deploy {command} printed no JSON: {output[:200]}") from error
    if not isinstance(document, dict):
        raise UpdateError(f"container.deploy {command} printed no object: {output[:200]}")
    return document
