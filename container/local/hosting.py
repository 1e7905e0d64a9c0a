"""A hosted model: the plan of a container and its limits, its start, and its stop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..docker import DockerFailed, docker
from .call import Address
from .container import Container, DidNotStart, Mount, Resources, start_container, start_process
from .health import HealthMonitor, wait_healthy
from .limits import ENVIRONMENT_BYTES, ENVIRONMENT_ENTRIES, ENVIRONMENT_TEXT_BYTES, PlatformLimits
from .model import prepare

HOST = "127.0.0.1"
MODEL, MODELS = "/opt/ml/model", "/opt/ml/models"
ADMIN = "SLIPWAY_ADMIN"
IMAGE_ENVIRONMENT = {"SLIPWAY_HOST": HOST, ADMIN: "off", "SLIPWAY_DRAIN_GRACE_S": "5"}
"""Variables that the image sets, for a process without an image."""


class InvalidPlan(Exception):
    """The options cannot be hosted; the message says what to change."""


@dataclass(frozen=True, slots=True)
class HostingPlan:
    """Model, image, variables and limits of one container.

    ``image`` None: the server of this checkout, or ``command`` instead of it. ``environ``:
    ``ContainerDefinition.Environment``. ``injected``: the variables that the platform adds for a mode.
    """

    model: Path | None
    image: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    injected: Mapping[str, str] = field(default_factory=dict)
    multi_model: bool = False
    image_bytes: int | None = None
    """The largest permitted image, unpacked; None: no limit."""
    resources: Resources = field(default_factory=Resources)
    limits: PlatformLimits = field(default_factory=PlatformLimits)
    command: Sequence[str] | None = None
    admin: bool = False
    """Whether the server of this checkout opens the routes that change models to this machine."""
    label: str = ""
    """NAME=VALUE, a label of the container."""


def check_environment(environ: Mapping[str, str]) -> None:
    """Raises InvalidPlan for an environment that CreateModel would refuse."""
    if len(environ) > ENVIRONMENT_ENTRIES:
        raise InvalidPlan(f"Environment has {len(environ)} entries; the platform takes {ENVIRONMENT_ENTRIES}")
    for name, value in environ.items():
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise InvalidPlan(f"Environment: {name[:64]!r} is no variable name: use letters, digits and _")
        if max(len(name.encode()), len(value.encode())) > ENVIRONMENT_TEXT_BYTES:
            raise InvalidPlan(f"Environment: {name[:64]} is longer than {ENVIRONMENT_TEXT_BYTES} bytes")
    if sum(len(name.encode()) + len(value.encode()) for name, value in environ.items()) > ENVIRONMENT_BYTES:
        raise InvalidPlan(f"Environment is larger than {ENVIRONMENT_BYTES} bytes in all")


def check_image(image: str, max_bytes: int) -> None:
    """Raises InvalidPlan for an image that is larger than the platform allows, and DidNotStart for a missing one."""
    try:
        size = int(docker("image", "inspect", "--format", "{{.Size}}", image))
    except DockerFailed as error:
        raise DidNotStart(f"docker image inspect: {error}") from error
    if size > max_bytes:
        raise InvalidPlan(f"{image} has {size} bytes; the platform takes {max_bytes} for this mode")


class Hosting:
    """One container, started, monitored and stopped as the platform does."""

    def __init__(
        self, plan: HostingPlan, workspace: Path, log: Callable[[str], None], echo: IO[str] | None = None
    ) -> None:
        """``workspace``: where archives are unpacked. ``log`` gets events, ``echo`` the container's output."""
        check_environment(plan.environ)
        self.plan = plan
        self._workspace = workspace
        self._log = log
        self._echo = echo
        self.models_host_path = workspace / "models"
        """Where target models are unpacked."""
        self.models_container_path = MODELS if plan.image else str(self.models_host_path)
        """The same folder as the container sees it."""
        self.container: Container | None = None
        self._monitor: HealthMonitor | None = None

    @property
    def address(self) -> Address:
        return Address(HOST, self._running.port, self.plan.limits.accept_s)

    @property
    def _running(self) -> Container:
        assert self.container is not None, "the container was not started"
        return self.container

    @property
    def unhealthy(self) -> str | None:
        """The reason why the last health check failed; None when it succeeded."""
        return self._monitor.problem if self._monitor is not None else None

    def start(self) -> float:
        """Seconds until the container was healthy. Raises DidNotStart or InvalidModel, with the container removed."""
        self.container = self._from_image() if self.plan.image else self._as_process()
        try:
            seconds = wait_healthy(self.container, self.address, self.plan.limits)
        except DidNotStart:
            self.container.close()
            raise
        self._monitor = HealthMonitor(self.container, self.address, self.plan.limits, self._log)
        self._monitor.start()
        return seconds

    def stop(self) -> tuple[int, float]:
        """The exit code, and the seconds from SIGTERM to the exit."""
        if self._monitor is not None:
            self._monitor.stop()
        return self._running.stop(self.plan.limits.stop_s)

    def _model(self) -> Path | None:
        if self.plan.multi_model:
            self.models_host_path.mkdir(parents=True, exist_ok=True)
            return None
        return None if self.plan.model is None else prepare(self.plan.model, self._workspace / "model")

    def _injected(self) -> dict[str, str]:
        mode = {"SAGEMAKER_MULTI_MODEL": "true"} if self.plan.multi_model else {}
        return {**mode, **self.plan.injected}

    def _as_process(self) -> Container:
        model = self._model()
        where = {"SLIPWAY_MODEL": str(model)} if model is not None else {}
        as_image = {name: value for name, value in IMAGE_ENVIRONMENT.items() if name != ADMIN or not self.plan.admin}
        environ = {**as_image, **where, **self._injected(), **self.plan.environ}
        return start_process(environ, command=self.plan.command, echo=self._echo)

    def _from_image(self) -> Container:
        assert self.plan.image is not None
        if self.plan.image_bytes is not None:
            check_image(self.plan.image, self.plan.image_bytes)
        model = self._model()
        mounts = [] if model is None else [Mount(model, MODEL)]
        if self.plan.multi_model:
            mounts = [Mount(self.models_host_path, MODELS)]
        environ = {**self._injected(), **self.plan.environ}
        return start_container(
            self.plan.image, environ, mounts, self.plan.resources, label=self.plan.label, echo=self._echo
        )
