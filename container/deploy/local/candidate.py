"""A candidate beside the version that answers, in one server: its canary or shadow, through the admin routes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...local.call import Address, NoResponse, call
from ...local.model import prepare
from . import state
from .state import Folder

CANARY, SHADOW = "canary", "shadow"
RULES = {"error_rate": 0.01, "latency": 2.0, "least": 50}
"""A canary is rolled back if its error rate is 0.01 above the stable version's, or its p95 twice that; at least 50
responses count."""
ANSWER_S, LOAD_S, ACCEPT_S = 30.0, 1_200.0, 5.0
READY = "READY"


class Refused(Exception):
    """The server does not compare the two; the message says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """The admin routes of a server, which holds one model."""

    address: Address

    def model(self) -> dict[str, Any]:
        """The document of the model. Raises Refused, also where the server does not respond."""
        models = self._ask("GET", "/admin/models")
        if not models:
            raise Refused("the server has no model")
        document: dict[str, Any] = models[0]
        return document

    def compare(self, wanted: dict[str, Any], model: Path) -> None:
        """Bring about a wanted comparison with the model of this folder; one that runs already goes on."""
        present = self.model()
        running, release = present["comparison"], wanted["release"]
        if running is not None and _same(running, wanted):
            return
        name = quote(present["name"], safe="")
        ready = any(one["version"] == release and one["state"] == READY for one in present["versions"])
        if not ready:
            body = {"path": str(model), "name": present["name"], "version": release, "activate": False}
            self._ask("POST", "/admin/models", body, LOAD_S)
        asked = {"version": release, "percent": wanted["percent"]}
        rules = {"rules": RULES} if wanted["kind"] == CANARY else {}
        self._ask("PUT", f"/admin/models/{name}/{wanted['kind']}", {**asked, **rules})

    def end(self, release: str) -> None:
        """End the comparison with a release, and unload it."""
        present = self.model()
        name = quote(present["name"], safe="")
        if present["comparison"] is not None:
            self._ask("POST", f"/admin/models/{name}/rollback")
        if any(one["version"] == release and one["state"] == READY for one in present["versions"]):
            self._ask("DELETE", f"/admin/models/{name}/versions/{quote(release, safe='')}", within_s=LOAD_S)

    def _ask(self, method: str, path: str, body: Any = None, within_s: float = ANSWER_S) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        try:
            told = call(self.address, method, path, {"content-type": "application/json"}, content, within_s=within_s)
        except NoResponse as error:
            raise Refused(f"the server does not respond: {error}") from error
        if not told.ok:
            raise Refused(f"the server refuses: {_reason(told.text)}")
        return json.loads(told.body)


def server_of(url: str) -> Server:
    """The admin routes at a URL, http://HOST:PORT."""
    return Server(Address.of(url, ACCEPT_S))


def model_of(folder: Folder, release: str) -> Path:
    """The folder of a release's model; its archive is unpacked into the workspace. Raises InvalidModel."""
    unpacked = folder.workspace / f"candidate-{release}"
    return unpacked if unpacked.is_dir() else prepare(state.model_of(folder.release(release)), unpacked)


def _same(running: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a running comparison is the wanted one."""
    same = running["kind"] == wanted["kind"] and running["other"]["version"] == wanted["release"]
    return same and bool(running["percent"] == wanted["percent"])


def _reason(text: str) -> str:
    try:
        told = json.loads(text)
    except ValueError:
        return text[:300]
    return str(told.get("error") or told)[:300] if isinstance(told, dict) else text[:300]
