"""A hosted model: what to run and under which limits, from the start to the last signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .call import Address
from .health import Watch, wait_healthy
from .instance import DidNotStart, Instance, Mount, Resources, bare, from_image
from .limits import ENVIRONMENT_BYTES, ENVIRONMENT_ENTRIES, ENVIRONMENT_TEXT_BYTES, Limits
from .model import prepare

HOST = "127.0.0.1"
MODEL, MODELS = "/opt/ml/model", "/opt/ml/models"
AS_IN_THE_IMAGE = {"SLIPWAY_HOST": HOST, "SLIPWAY_ADMIN": "off", "SLIPWAY_DRAIN_GRACE_S": "5"}
"""What the image sets, for the bare process."""


class BadPlan(Exception):
    """What was asked for cannot be hosted; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: ``image`` None is the server of this checkout; ``command`` takes its place.

    ``environ`` is ``ContainerDefinition.Environment``; ``injected`` what the platform adds for a mode.
    """

    model: Path | None
    image: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    injected: Mapping[str, str] = field(default_factory=dict)
    multi_model: bool = False
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    command: Sequence[str] | None = None


def check_environment(environ: Mapping[str, str]) -> None:
    """Raises BadPlan for what CreateModel would refuse."""
    if len(environ) > ENVIRONMENT_ENTRIES:
        raise BadPlan(f"Environment has {len(environ)} entries; the platform takes {ENVIRONMENT_ENTRIES}")
    for name, value in environ.items():
        if max(len(name.encode()), len(value.encode())) > ENVIRONMENT_TEXT_BYTES:
            raise BadPlan(f"Environment: {name[:64]} is longer than {ENVIRONMENT_TEXT_BYTES} bytes")
    if sum(len(name.encode()) + len(value.encode()) for name, value in environ.items()) > ENVIRONMENT_BYTES:
        raise BadPlan(f"Environment is larger than {ENVIRONMENT_BYTES} bytes in all")


class Hosting:
    """One container under the platform's care."""

    def __init__(self, plan: Plan, workspace: Path, tell: Callable[[str], None], echo: IO[str] | None = None) -> None:
        """``workspace``: where archives are unpacked. ``tell`` gets events, ``echo`` the container's own output."""
        check_environment(plan.environ)
        self.plan = plan
        self._workspace = workspace
        self._tell = tell
        self._echo = echo
        self.models_here = workspace / "models"
        """Where target models are unpacked."""
        self.models_there = MODELS if plan.image else str(self.models_here)
        """The same as the container sees it."""
        self.instance: Instance | None = None
        self._watch: Watch | None = None

    @property
    def address(self) -> Address:
        return Address(HOST, self._running.port, self.plan.limits.accept_s)

    @property
    def _running(self) -> Instance:
        assert self.instance is not None, "asked before it was started"
        return self.instance

    @property
    def unhealthy(self) -> str | None:
        """What the last health check found wrong."""
        return self._watch.wrong if self._watch is not None else None

    def start(self) -> float:
        """Seconds until it was healthy. Raises DidNotStart or BadModel; nothing is left behind then."""
        self.instance = self._from_image() if self.plan.image else self._bare()
        try:
            seconds = wait_healthy(self.instance, self.address, self.plan.limits)
        except DidNotStart:
            self.instance.close()
            raise
        self._watch = Watch(self.instance, self.address, self.plan.limits, self._tell)
        self._watch.start()
        return seconds

    def stop(self) -> tuple[int, float]:
        """Exit code, and the seconds from SIGTERM to the end."""
        if self._watch is not None:
            self._watch.stop()
        return self._running.stop(self.plan.limits.stop_s)

    def _model(self) -> Path | None:
        if self.plan.multi_model:
            self.models_here.mkdir(parents=True, exist_ok=True)
            return None
        return None if self.plan.model is None else prepare(self.plan.model, self._workspace / "model")

    def _injected(self) -> dict[str, str]:
        mode = {"SAGEMAKER_MULTI_MODEL": "true"} if self.plan.multi_model else {}
        return {**mode, **self.plan.injected}

    def _bare(self) -> Instance:
        model = self._model()
        where = {"SLIPWAY_MODEL": str(model)} if model is not None else {}
        environ = {**AS_IN_THE_IMAGE, **where, **self._injected(), **self.plan.environ}
        return bare(environ, command=self.plan.command, echo=self._echo)

    def _from_image(self) -> Instance:
        assert self.plan.image is not None
        model = self._model()
        mounts = [] if model is None else [Mount(model, MODEL)]
        if self.plan.multi_model:
            mounts = [Mount(self.models_here, MODELS)]
        environ = {**self._injected(), **self.plan.environ}
        return from_image(self.plan.image, environ, mounts, self.plan.resources, echo=self._echo)
