"""The builder of served models: the kind of an artifact decides which module builds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter_ns

from ...artifact import Artifact
from ...errors import DeviceLost
from ...settings.options import Settings
from ...slowdown import Slowdown
from ...system.memory import trim
from ..served import ServedModel
from . import pipelines, scripts, tensor_models
from .context import Build, LoadContext
from .host import compare_host
from .placement import require_device, unused_gpus

log = logging.getLogger("slipway.models")


class Loader:
    """Builds served models. It knows nothing of names that are taken, versions or memory. Not for the event loop."""

    def __init__(
        self,
        settings: Settings,
        slowdown: Slowdown | None = None,
        on_device_lost: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        """``slowdown``: may slow down the stages of the models; None: nothing can. ``on_device_lost``: called on the
        event loop when a GPU has failed for good."""
        self._context = LoadContext.of(settings, slowdown, on_device_lost)

    def build(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        """Load, warm up and connect a model.

        Raises BrokenArtifact with the reason, naming the step of a pipeline; sessions that were opened are closed.
        """
        try:
            return self._build(artifact, loop)
        except BaseException as error:
            if isinstance(error, DeviceLost):
                loop.call_soon_threadsafe(self._context.on_device_lost, str(error))
            if artifact.temporary is not None:
                artifact.temporary.remove()
            raise

    def _build(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        begun_ns = perf_counter_ns()
        build = Build(artifact, loop, self._context.changed(artifact.overrides))
        declaration = artifact.declaration
        if declaration.ignored:
            log.warning(
                "fields are not honoured model=%s file=%s fields=%s",
                *(artifact.manifest.name, declaration.file, ",".join(declaration.ignored)[:2_000]),
            )
        if artifact.manifest.pipeline is not None:
            compare_host(artifact.manifest)
            model = pipelines.build(build)
        elif artifact.script is not None:
            model = scripts.build(build, artifact.script)
        else:
            compare_host(artifact.manifest)
            require_device(artifact.manifest, self._context.settings)
            unused = 0 if artifact.declared else unused_gpus(artifact.manifest, self._context.settings)
            if unused:
                log.warning("GPUs are not used model=%s gpus=%d; set --device cuda", artifact.manifest.name, unused)
            model = tensor_models.build(build)
        trim()
        model.metrics.load_seconds = (perf_counter_ns() - begun_ns) / 1e9
        log.info("model ready model=%s version=%s load_s=%.2f", model.name, model.version, model.metrics.load_seconds)
        return model
