"""The engine: what the loop asks of the thing that serves. One implementation for each, in ``open_engine``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from .errors import UpdateError
from .settings import Settings


class Engine(Protocol):
    """Calls are idempotent: the loop repeats a call after it was killed.

    Calls raise StepFailed if the engine refuses, and Unreachable if it does not respond.
    """

    def serving(self) -> tuple[str, Path | None] | None:
        """The version that answers, and its artifact if the engine knows it; None while nothing answers."""
        ...

    def load(self, version: str, artifact: Path) -> dict[str, Any]:
        """Load a version beside the one that answers. Returns evidence."""
        ...

    def shadow(self, version: str) -> dict[str, Any]:
        """Copy requests to the version, and return the evidence that :func:`judge.shadow` takes."""
        ...

    def canary(self, version: str, percent: float) -> dict[str, Any]:
        """Give a part of the requests to the version, and return the evidence that :func:`judge.canary` takes."""
        ...

    def promote(self, version: str) -> dict[str, Any]:
        """Answer with the version, wait for its probation, and return the evidence of :func:`judge.promotion`."""
        ...

    def publish(self, version: str, artifact: Path) -> dict[str, Any]:
        """Make the promoted version the one that a restart serves. Returns evidence."""
        ...

    def withdraw(self, version: str) -> dict[str, Any]:
        """Take everything of the version back: the version before it answers alone. Returns evidence."""
        ...


def open_engine(settings: Settings) -> Engine:
    """The engine of the settings. Raises UpdateError."""
    if settings.engine == "sagemaker":
        from .sagemaker_engine import SageMakerEngine

        return SageMakerEngine(settings)
    if settings.engine == "local":
        from .local_engine import LocalEngine, Server

        return LocalEngine(settings, Server(settings.server))
    raise UpdateError(f"there is no engine {settings.engine}")
