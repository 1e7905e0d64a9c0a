"""The Slipway server of a replica: started on its node with the model of the description, watched, and drained."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import fatal

from ...local.container import DidNotStart
from ...local.hosting import Hosting, HostingPlan, InvalidPlan
from ...local.limits import PlatformLimits
from ...local.model import InvalidModel
from .. import model_source
from ..errors import InvalidDescription

PING_S = 1.0
END_S = 5.0
"""Beyond the drain."""
FROM_RAY = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
"""Variables of a replica that its server needs: Ray says in them which GPUs the replica has."""
PROGRAM = (
    "import runpy, sys; from server.system.orphans import end_with_parent; end_with_parent(int(sys.argv.pop(1))); "
    "sys.argv[0] = 'serve.py'; runpy.run_path('serve.py', run_name='__main__')"
)
"""serve.py as a process that the kernel kills when the replica is killed."""


class CannotServe(Exception):
    """The server did not start; the message is one fatal line that says why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The arguments of an application, as ``application.arguments`` makes them."""

    release: str
    model: str
    digest: str
    environment: Mapping[str, str]
    startup_s: float
    drain_s: float


class Server:
    """One server process on a free port of the loopback."""

    def __init__(self, wanted: Wanted, node: str, log: Callable[[str], None]) -> None:
        """Start it, and wait until its /ping succeeds. Raises CannotServe. ``log`` gets its output line by line.

        The process ends with the thread that makes this object.
        """
        self._workspace = tempfile.TemporaryDirectory(prefix="slipway-ray-")
        try:
            model = _checked(wanted, node)
            self._hosting = Hosting(_plan(wanted, model), Path(self._workspace.name), log, _Lines(log))
            self._hosting.start()
        except (DidNotStart, InvalidModel, InvalidPlan, InvalidDescription, CannotServe, OSError) as error:
            self._workspace.cleanup()
            raise CannotServe(fatal.MARK + (fatal.found_in(str(error)) or str(error))) from error

    @property
    def url(self) -> str:
        """Without a path."""
        address = self._hosting.address
        return f"http://{address.host}:{address.port}"

    @property
    def problem(self) -> str | None:
        """Why the newest ping failed; None where it succeeded."""
        return self._hosting.unhealthy

    def wait(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        container = self._hosting.container
        assert container is not None, "a server that was made has started"
        return container.process.wait()

    def stop(self) -> tuple[int, float]:
        """SIGTERM, the drain, and SIGKILL after it. Returns the exit code and the seconds that it took."""
        try:
            return self._hosting.stop()
        finally:
            self._workspace.cleanup()


def _checked(wanted: Wanted, node: str) -> Path:
    """The model on this node. Raises CannotServe where it is missing, or another one than was described."""
    path = Path(wanted.model)
    if not path.exists():
        raise CannotServe(
            f"node {node} has no {path}: put the model there, or pass its place on the nodes as --storage"
        )
    found = model_source.find(str(path), multi_model=False).files[""].digest
    if found != wanted.digest:
        raise CannotServe(
            f"node {node} has another model at {path} than was deployed ({found[:10]}, not {wanted.digest[:10]}): copy "
            "it there again; a folder for each version avoids that"
        )
    return path


def _plan(wanted: Wanted, model: Path) -> HostingPlan:
    given: dict[str, Any] = {name: os.environ[name] for name in FROM_RAY if name in os.environ}
    return HostingPlan(
        model=model,
        # Ray sends nothing to a replica that ends, so no time of grace is needed.
        environ={"SLIPWAY_DRAIN_GRACE_S": "0", **wanted.environment},
        injected=given,
        limits=PlatformLimits(startup_s=wanted.startup_s, ping_interval_s=PING_S, stop_s=wanted.drain_s + END_S),
        command=(sys.executable, "-c", PROGRAM, str(os.getpid()), "serve"),
    )


class _Lines(io.StringIO):
    """A stream that keeps nothing, and gives each line to a function."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__()
        self._log = log

    def write(self, text: str) -> int:
        if text.strip():
            self._log(text.rstrip("\n"))
        return len(text)
