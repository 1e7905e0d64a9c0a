"""The local engine: a server of Slipway, through its admin routes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..local.call import Address, NoResponse, call
from .errors import StepFailed, Unreachable, UpdateError
from .settings import Settings

TIMEOUT_S, ACCEPT_S = 30.0, 5.0
JSON = {"content-type": "application/json"}
LOAD_S = 1_200.0
CONFLICT, NOT_FOUND = 409, 404
POLL_S = 0.5
READY, FAILED = "READY", "UNAVAILABLE"


class Server:
    """The admin routes of one server."""

    def __init__(self, url: str) -> None:
        """Raises UpdateError for an address that is none."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UpdateError(f"--server {url} must be http://HOST:PORT")
        self.url = url
        self._address = Address(parts.hostname, parts.port or 80, ACCEPT_S)

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float = TIMEOUT_S) -> tuple[int, Any]:
        """Status and document of one request. Raises Unreachable."""
        content = b"" if body is None else json.dumps(body).encode()
        try:
            response = call(self._address, method, path, JSON, content, within_s=timeout_s)
        except NoResponse as error:
            raise Unreachable(f"the server at {self.url} does not respond: {error}") from error
        try:
            return response.status, json.loads(response.body)
        except json.JSONDecodeError:
            return response.status, {"error": response.text[:200]}


class LocalEngine:
    """Loads, shadows, splits, promotes and rolls back one model of a server."""

    def __init__(
        self,
        settings: Settings,
        server: Server,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``sleep`` and ``clock`` take and give seconds."""
        self._settings = settings
        self._server = server
        self._sleep = sleep
        self._clock = clock
        self._url = "/admin/models/" + quote(settings.name, safe="")

    def serving(self) -> tuple[str, Path | None] | None:
        model = self._model()
        if model is None or model["answers"] is None:
            return None
        version = str(model["answers"])
        paths = [one["path"] for one in model["versions"] if one["version"] == version]
        path = Path(paths[0]) if paths and paths[0] else None
        return version, path if path is not None and path.exists() else None

    def load(self, version: str, artifact: Path) -> dict[str, Any]:
        if not self._is_ready(version):
            body = {"path": str(artifact.resolve()), "name": self._settings.name, "version": version}
            first = self.serving() is None
            status, told = self._server.ask("POST", "/admin/models", {**body, "activate": first}, LOAD_S)
            if status == CONFLICT:  # a loop that was killed began to load it
                self._await_ready(version)
            elif status != 200:
                raise StepFailed(f"the server does not load version {version}: {_error(told)}")
        row = self._version(version)
        return {"version": version, "load_seconds": row["load_seconds"], "memory_bytes": row["memory_bytes"]}

    def shadow(self, version: str) -> dict[str, Any]:
        self._compare("shadow", version, {"version": version})
        wanted, end = self._settings.shadow_requests, self._clock() + self._settings.step_s

        def enough(one: dict[str, Any]) -> bool:
            counts = one["outcomes"]
            compared: int = sum(counts.get(name, 0) for name in ("same", "different", "failed"))
            return compared >= wanted

        comparison, ended = self._watch("shadow", version, enough, end)
        return {
            "version": version,
            "wanted": wanted,
            "step_s": self._settings.step_s,
            "shadow_failures": self._settings.shadow_failures,
            "outcomes": comparison.get("outcomes", {}),
            "largest_difference": comparison.get("largest_difference"),
            "stable": comparison.get("stable"),
            "shadow": comparison.get("other"),
            "ended": ended,
        }

    def canary(self, version: str, percent: float) -> dict[str, Any]:
        settings = self._settings
        rules = {"error_rate": settings.error_rate, "latency": settings.latency, "least": settings.canary_answers}
        self._compare("canary", version, {"version": version, "percent": percent, "rules": rules}, percent)
        end = self._clock() + settings.step_s

        def enough(one: dict[str, Any]) -> bool:
            return bool(one["other"]["answers"] >= settings.canary_answers)

        comparison, ended = self._watch("canary", version, enough, end)
        none = {"answers": 0, "faults": 0, "p95_ms": 0.0}
        return {
            "version": version,
            "percent": percent,
            "wanted": settings.canary_answers,
            "step_s": settings.step_s,
            "error_rate": settings.error_rate,
            "latency": settings.latency,
            "candidate": comparison.get("other") or none,
            "stable": comparison.get("stable") or none,
            "ended": ended,
        }

    def promote(self, version: str) -> dict[str, Any]:
        self.load(version, self._settings.artifact(version))
        model = self._known()
        if model["answers"] != version:
            if model["switches"] and f"version {version} was rolled back" in model["switches"][-1]["reason"]:
                return self._promoted(model, version)  # after the loop was killed
            status, told = self._server.ask("POST", f"{self._url}/promote", {"version": version})
            if status != 200:
                raise StepFailed(f"the server does not promote version {version}: {_error(told)}")
        end = self._clock() + self._settings.probation_s
        while True:
            model = self._known()
            probation = model["probation"]
            if model["answers"] != version or probation is None or self._clock() >= end:
                return self._promoted(model, version)
            self._sleep(POLL_S)

    def publish(self, version: str, artifact: Path) -> dict[str, Any]:
        if not self._settings.publish:
            return {"skipped": "no --publish folder: a restart of the server serves what its --model has"}
        folder = Path(self._settings.publish) / self._settings.name
        target = folder / version
        if not target.exists():
            part = folder / f".{version}.part"
            shutil.rmtree(part, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            if artifact.is_dir():
                shutil.copytree(artifact, part)
            else:
                part.mkdir()
                shutil.copy2(artifact, part / "model.onnx")
            part.rename(target)
        return {"path": str(target)}

    def withdraw(self, version: str) -> dict[str, Any]:
        model = self._model()
        if model is None:
            return {"answers": None}
        comparison = model["comparison"]
        compared = comparison is not None and comparison["other"]["version"] == version
        others = [one for one in model["versions"] if one["state"] == READY and one["version"] != version]
        if compared or (model["answers"] == version and others):
            self._server.ask("POST", f"{self._url}/rollback")
        model = self._known()
        ready = any(one["version"] == version and one["state"] == READY for one in model["versions"])
        if ready and model["answers"] != version:
            self._server.ask("DELETE", f"{self._url}/versions/{quote(version, safe='')}", None, LOAD_S)
        return {"answers": self._known()["answers"]}

    # The state of the server

    def _model(self) -> dict[str, Any] | None:
        """The model's document; None if the server knows no such model. Raises Unreachable and StepFailed."""
        status, told = self._server.ask("GET", self._url)
        if status == NOT_FOUND and isinstance(told, dict) and told.get("code") == "unknown_model":
            return None
        if status >= 500:
            raise Unreachable(f"the server at {self._server.url} says {status}")
        if status != 200:
            raise StepFailed(f"the admin routes of {self._server.url} refuse: {_error(told)}")
        document: dict[str, Any] = told
        return document

    def _known(self) -> dict[str, Any]:
        model = self._model()
        if model is None:
            raise StepFailed(f"the server has no model {self._settings.name} any more")
        return model

    def _version(self, version: str) -> dict[str, Any]:
        found = next((one for one in self._known()["versions"] if one["version"] == version), None)
        if found is None or found["state"] != READY:
            state = "unknown" if found is None else f"{found['state']} ({found['reason']})"
            raise StepFailed(f"version {version} is not ready on the server: {state}")
        row: dict[str, Any] = found
        return row

    def _is_ready(self, version: str) -> bool:
        model = self._model()
        rows = [] if model is None else model["versions"]
        return any(one["version"] == version and one["state"] == READY for one in rows)

    def _await_ready(self, version: str) -> None:
        end = self._clock() + LOAD_S
        while not self._is_ready(version):
            rows = [one for one in self._known()["versions"] if one["version"] == version]
            if self._clock() >= end or (rows and rows[0]["state"] == FAILED):
                raise StepFailed(f"version {version} did not become ready: {rows[0]['reason'] if rows else 'unknown'}")
            self._sleep(POLL_S)

    # Comparisons

    def _compare(self, kind: str, version: str, body: dict[str, Any], percent: float | None = None) -> None:
        """Start a comparison, unless it runs already. The version is loaded again if the server was restarted."""
        self.load(version, self._settings.artifact(version))
        running = self._known()["comparison"]
        is_ours = running is not None and running["kind"] == kind and running["other"]["version"] == version
        if is_ours and percent in (None, running["percent"]):
            return
        status, told = self._server.ask("PUT", f"{self._url}/{kind}", body)
        if status != 200:
            raise StepFailed(f"the server starts no {kind} with version {version}: {_error(told)}")

    def _watch(
        self, kind: str, version: str, enough: Callable[[dict[str, Any]], bool], end: float
    ) -> tuple[dict[str, Any], str]:
        """The last state of a comparison, and why it was ended before ``enough``, empty if it was not."""
        last: dict[str, Any] = {}
        while True:
            model = self._known()
            running = model["comparison"]
            if running is None or running["kind"] != kind or running["other"]["version"] != version:
                if not self._is_ready(version):
                    raise Unreachable("the server was restarted; the step begins again")
                switches = model["switches"]
                return last, str(switches[-1]["reason"]) if switches else "the server knows no reason"
            last = running
            if enough(running) or self._clock() >= end:
                return last, ""
            self._sleep(POLL_S)

    def _promoted(self, model: dict[str, Any], version: str) -> dict[str, Any]:
        switches, probation = model["switches"], model["probation"]
        return {
            "version": version,
            "answers": model["answers"],
            "reason": switches[-1]["reason"] if switches else "",
            "probation_left_s": probation["left_s"] if probation is not None else 0.0,
        }


def _error(told: Any) -> str:
    return str(told.get("error") or told.get("detail") or told)[:300] if isinstance(told, dict) else str(told)[:300]
