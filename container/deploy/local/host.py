"""The host process of a deployment: serves the runtime API, and exchanges the container when another one is wanted.

``python -m container.deploy.local.host FOLDER`` runs until SIGTERM. A release that does not start leaves the one in
service; the report says why.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ...local.container import DidNotStart
from ...local.endpoint import Endpoint
from ...local.hosting import HOST, Hosting, HostingPlan, InvalidPlan
from ...local.limits import PlatformLimits
from ...local.model import InvalidModel
from ...local.runtime import Runtime, listening
from . import state
from .state import FAILED, IN_SERVICE, STARTING, Folder

LOOK_S = 0.1


@dataclass(slots=True)
class Host:
    """The containers of one deployment, and its report."""

    folder: Folder
    workspace: Path
    log: IO[str]
    url: str = ""
    release: str = ""
    hosting: Hosting | None = None
    failed: dict[str, Any] = field(default_factory=dict)

    def start(self, wanted: dict[str, Any]) -> Endpoint | None:
        """The endpoint of a new container, or None where it does not start; the report then says why."""
        release = str(wanted["release"])
        self.report(STARTING)
        workspace = Path(tempfile.mkdtemp(dir=self.workspace))
        workspace.chmod(0o755)  # the container may run as any user
        try:
            plan = HostingPlan(
                model=state.model_of(self.folder.release(release)),
                image=wanted.get("image"),
                environ=wanted.get("environment", {}),
                limits=PlatformLimits(startup_s=float(wanted["startup_s"])),
            )
            hosting = Hosting(plan, workspace, self._say, echo=self.log)
            hosting.start()
        except (DidNotStart, InvalidModel, InvalidPlan, OSError) as error:
            self.failed = {"attempt": wanted["attempt"], "release": release, "reason": str(error)}
            return None
        self.hosting, self.release, self.failed = hosting, release, {}
        return Endpoint(str(wanted["name"]), hosting)

    def report(self, status: str) -> None:
        """Write the report."""
        document = {
            "status": status,
            "release": self.release,
            "url": self.url,
            "failed": self.failed,
        }
        state.write(self.folder.report, document)

    def _say(self, line: str) -> None:
        print(f"host: {line}", file=self.log, flush=True)


def main(root: Path) -> int:
    """Serve until SIGTERM. Returns 1 when the first container does not start."""
    folder = Folder(root)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with state.locked(folder) as mine, tempfile.TemporaryDirectory(prefix="slipway-host-") as workspace:
        if not mine:
            return 0
        Path(workspace).chmod(0o755)
        with folder.log.open("a", encoding="utf-8") as log:
            return _serve(Host(folder, Path(workspace), log), stopped)


def _serve(host: Host, stopped: threading.Event) -> int:
    wanted = state.read(host.folder.wanted)
    try:
        listener = socket.create_server((HOST, int(wanted["port"])))
    except OSError as error:
        port = wanted["port"]
        reason = f"port {port} of {HOST} cannot be used ({error.strerror}): pass another --port"
        host.failed = {"attempt": wanted["attempt"], "release": wanted["release"], "reason": reason}
        host.report(FAILED)
        return 1
    with listener:
        endpoint = host.start(wanted)
        if endpoint is None or host.hosting is None:
            host.report(FAILED)
            return 1
        runtime = Runtime(endpoint)
        with listening(runtime, listener) as host.url:
            host.report(IN_SERVICE)
            _follow(host, runtime, wanted, stopped)
        host.hosting.stop()
    return 0


def _follow(host: Host, runtime: Runtime, wanted: dict[str, Any], stopped: threading.Event) -> None:
    """Exchange the container whenever the wanted attempt changes."""
    while not stopped.wait(LOOK_S):
        now = state.read(host.folder.wanted)
        if not now or now["attempt"] == wanted["attempt"]:
            continue
        wanted, before = now, host.hosting
        if now["release"] == host.release:
            host.failed = {}
        else:
            endpoint = host.start(now)
            if endpoint is not None and before is not None:
                runtime.endpoint = endpoint
                host.report(IN_SERVICE)
                before.stop()  # it answers what is under way, and what still reaches it, until it has drained
        host.report(IN_SERVICE)


if __name__ == "__main__":
    # The process that the command started ends here; its child lives on, and init collects it.
    if os.fork():
        os._exit(0)
    os.setsid()
    sys.exit(main(Path(sys.argv[1])))
