"""A server of a release behind the endpoint: its start as the settings say, its target models, and its end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from ...local.asynchronous import AsyncInferenceConfig
from ...local.container import Resources
from ...local.endpoint import Endpoint
from ...local.hosting import Hosting, HostingPlan
from ...local.limits import SERVERLESS_IMAGE_BYTES, PlatformLimits
from ...local.targets import TargetModels
from . import state
from .state import Folder
from .wanted import PROCESSES

Log = Callable[[str], None]


@dataclass(slots=True)
class Serving:
    """One server that runs. ``workspace``: its unpacked archives."""

    release: str
    instances: int
    hosting: Hosting
    endpoint: Endpoint
    workspace: Path
    targets: TargetModels | None = None

    @property
    def runs(self) -> bool:
        return self.hosting.container is not None and self.hosting.container.running

    def stop(self) -> None:
        """End the server: it answers what is under way, and what still reaches it, until it has drained."""
        if self.targets is not None:
            self.targets.close()
        self.hosting.stop()
        shutil.rmtree(self.workspace, ignore_errors=True)


def start(folder: Folder, wanted: dict[str, Any], log: Log, echo: IO[str]) -> Serving:
    """Start the server of the wanted release. Raises DidNotStart, InvalidModel, InvalidPlan, ApiError or OSError."""
    workspace = Path(tempfile.mkdtemp(dir=folder.workspace))
    try:
        workspace.chmod(0o755)  # the container may run as any user
        hosting = Hosting(_plan(folder, wanted), workspace, log, echo=echo)
        hosting.start()
        try:
            targets = _targets(folder, wanted, hosting, log)
        except BaseException:
            hosting.stop()
            raise
    except BaseException:
        shutil.rmtree(workspace, ignore_errors=True)
        raise
    endpoint = Endpoint(str(wanted["name"]), hosting, targets)
    return Serving(wanted["release"], wanted["instances"], hosting, endpoint, workspace, targets)


def _plan(folder: Folder, wanted: dict[str, Any]) -> HostingPlan:
    serverless = wanted.get("serverless")
    limits = PlatformLimits(startup_s=float(wanted["startup_s"]))
    instances = {PROCESSES: str(wanted["instances"])} if wanted["instances"] > 1 else {}
    multi_model = bool(wanted.get("multi_model"))
    return HostingPlan(
        model=None if multi_model else state.model_of(folder.release(wanted["release"])),
        image=wanted.get("image"),
        environ=wanted["environment"],
        injected=instances,
        multi_model=multi_model,
        image_bytes=SERVERLESS_IMAGE_BYTES if serverless else None,
        resources=Resources(memory_mib=serverless, read_only=bool(serverless)),
        limits=limits.serverless(wanted["max_concurrency"]) if serverless else limits,
        admin=not multi_model and not serverless,
        label=folder.label,
    )


def _targets(folder: Folder, wanted: dict[str, Any], hosting: Hosting, log: Log) -> TargetModels | None:
    if not wanted.get("multi_model"):
        return None
    targets = TargetModels(
        state.model_of(folder.release(wanted["release"])),
        hosting.models_host_path,
        hosting.models_container_path,
        hosting.address,
        hosting.plan.limits,
        log,
        str(wanted["name"]),
    )
    targets.verify_protocol()
    return targets


def asynchronous_of(wanted: dict[str, Any]) -> AsyncInferenceConfig | None:
    """The configuration of asynchronous inference; None where it is not wanted."""
    output = wanted.get("asynchronous")
    if not output:
        return None
    config = AsyncInferenceConfig(output, output.rstrip("/") + "-failure")
    concurrent = wanted.get("asynchronous_concurrency")
    return replace(config, max_concurrent_invocations_per_instance=concurrent) if concurrent else config
