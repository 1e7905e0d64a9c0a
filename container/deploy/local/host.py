"""The host process of a deployment: serves the runtime API, and replaces the server when the wanted one changes.

``python -m container.deploy.local.host FOLDER`` runs until SIGTERM. A release that does not start leaves the one in
service; the report says why. Its server ends with it, also after SIGKILL; a container is removed by the next host.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ...docker import DockerFailed
from ...local.api_error import ApiError
from ...local.asynchronous import AsyncInferenceConfig, AsyncInvocations
from ...local.container import DidNotStart, remove_labelled
from ...local.hosting import HOST, InvalidPlan
from ...local.model import InvalidModel
from ...local.runtime import Runtime, listening
from ...local.store import ObjectStore
from . import candidate, serving, state
from .serving import Serving
from .state import FAILED, IN_SERVICE, STARTING, Folder

POLL_S = 0.1
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0
"""Before the restart of a server that ended: doubled each time."""


@dataclass(slots=True)
class Host:
    """The server of one deployment, and its report."""

    folder: Folder
    log: IO[str]
    url: str = ""
    attempt: int = 0
    serving: Serving | None = None
    candidate: str | None = None
    """The release that is compared with the one in service."""
    failed: dict[str, Any] = field(default_factory=dict)
    queues: list[tuple[AsyncInferenceConfig, AsyncInvocations]] = field(default_factory=list)
    """Queues of asynchronous inference, the newest last. Requests in an older one are still answered."""

    @property
    def runs(self) -> bool:
        """Whether there is a server that runs."""
        return self.serving is not None and self.serving.runs

    def begin(self, wanted: dict[str, Any]) -> bool:
        """Start the wanted server; the one before goes on. False where it does not start: the report then says why."""
        self.report(STARTING)
        try:
            self.serving = serving.start(self.folder, wanted, self._say, self.log)
        except (DidNotStart, InvalidModel, InvalidPlan, ApiError, OSError) as error:
            self.fail(wanted, str(error))
            return False
        self.candidate = None
        return True

    def attach(self, runtime: Runtime, wanted: dict[str, Any]) -> None:
        """Let the server answer the next requests, also those that wait in queues."""
        assert self.serving is not None
        runtime.endpoint = self.serving.endpoint
        for _, queue in self.queues:
            queue.endpoint = self.serving.endpoint
        config = serving.asynchronous_of(wanted)
        if config is None:
            runtime.asynchronous = None
            return
        if not self.queues or self.queues[-1][0] != config:
            store = ObjectStore(self.folder.objects)
            self.queues.append((config, AsyncInvocations(self.serving.endpoint, store, config, self._say)))
        runtime.asynchronous = self.queues[-1][1]

    def compare(self, wanted: dict[str, Any]) -> None:
        """Bring about, or end, the wanted comparison. A refusal is in the report."""
        asked = wanted.get("candidate")
        assert self.serving is not None
        server = candidate.Server(self.serving.hosting.address)
        try:
            if self.candidate is not None and (asked is None or asked["release"] != self.candidate):
                server.end(self.candidate)
                self.candidate = None
            if asked is not None:
                self.candidate = asked["release"]  # also of a refusal, after which it may be loaded
                server.compare(asked, candidate.model_of(self.folder, asked["release"]))
        except (candidate.Refused, InvalidModel, OSError) as error:
            self.fail(wanted, str(error))

    def fail(self, wanted: dict[str, Any], reason: str) -> None:
        """Note that an attempt failed."""
        self._say(reason)
        self.failed = {"attempt": wanted["attempt"], "reason": reason}

    def report(self, status: str) -> None:
        """Write the report."""
        one = self.serving
        document = {
            "status": status,
            "attempt": self.attempt,
            "release": one.release if one is not None else None,
            "instances": one.instances if one is not None else 0,
            "url": self.url,
            "server": f"http://{HOST}:{one.hosting.address.port}" if one is not None else None,
            "failed": self.failed,
        }
        state.write(self.folder.report, document)

    def end(self) -> None:
        """End the queues and the server."""
        for _, queue in self.queues:
            queue.close()
        if self.serving is not None:
            self.serving.stop()

    def _say(self, line: str) -> None:
        print(f"host: {line}", file=self.log, flush=True)


def main(root: Path) -> int:
    """Serve until SIGTERM. Returns 1 when the first server does not start."""
    folder = Folder(root)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with state.locked(folder) as mine:
        if not mine:
            return 0
        with folder.log.open("a", encoding="utf-8") as log:
            try:
                _clean(folder, log)
                return _serve(Host(folder, log), stopped)
            finally:
                shutil.rmtree(folder.workspace, ignore_errors=True)


def _clean(folder: Folder, log: IO[str]) -> None:
    """Remove what a host that was killed left: unpacked archives, and containers."""
    shutil.rmtree(folder.workspace, ignore_errors=True)
    folder.workspace.mkdir()
    folder.workspace.chmod(0o755)
    if state.has_images(folder):
        try:
            for identity in remove_labelled(folder.label):
                print(f"host: removed the orphaned container {identity}", file=log, flush=True)
        except DockerFailed as error:
            print(f"host: orphaned containers were not looked for: {error}", file=log, flush=True)


def _serve(host: Host, stopped: threading.Event) -> int:
    wanted = state.read(host.folder.wanted)
    try:
        listener = socket.create_server((HOST, int(wanted["port"])))
    except OSError as error:
        port = wanted["port"]
        host.fail(wanted, f"port {port} of {HOST} cannot be used ({error.strerror}): pass another --port")
        host.report(FAILED)
        return 1
    with listener:
        if not host.begin(wanted):
            host.report(FAILED)
            return 1
        try:
            assert host.serving is not None
            runtime = Runtime(host.serving.endpoint)
            host.attach(runtime, wanted)
            host.compare(wanted)
            with listening(runtime, listener) as host.url:
                host.attempt = wanted["attempt"]
                host.report(IN_SERVICE)
                _follow(host, runtime, wanted, stopped)
        finally:
            host.end()
    return 0


def _follow(host: Host, runtime: Runtime, wanted: dict[str, Any], stopped: threading.Event) -> None:
    """Follow each new attempt of the wanted state, and start the server again when it has ended."""
    delay_s, due_s = FIRST_DELAY_S, 0.0
    while not stopped.wait(POLL_S):
        now = state.read(host.folder.wanted)
        if now and now["attempt"] != wanted["attempt"]:
            wanted, delay_s = now, FIRST_DELAY_S
            host.failed = {}
            _bring_about(host, runtime, wanted)
        elif not host.runs and time.monotonic() >= due_s:
            due_s, delay_s = time.monotonic() + delay_s, min(2 * delay_s, LONGEST_DELAY_S)
            _bring_about(host, runtime, wanted)


def _bring_about(host: Host, runtime: Runtime, wanted: dict[str, Any]) -> None:
    """Make the server the wanted one. Another one answers before the one that runs drains."""
    before = host.serving
    kept = host.runs
    if before is not None and kept and (before.release, before.instances) == (wanted["release"], wanted["instances"]):
        before = None
    elif host.begin(wanted):
        host.attach(runtime, wanted)
    else:
        host.report(IN_SERVICE if kept else FAILED)
        return
    host.compare(wanted)
    host.attempt = wanted["attempt"]
    host.report(IN_SERVICE)
    if before is not None:
        before.stop()


if __name__ == "__main__":
    # The process that the command started ends here; its child lives on, and init collects it.
    if os.fork():
        os._exit(0)
    os.setsid()
    sys.exit(main(Path(sys.argv[1])))
