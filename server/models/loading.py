"""A model from its artifact: opened, planned, warmed up, wired to its scheduler, and closed again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter_ns
from typing import Protocol

from ..artifact import Artifact, Batching, Manifest
from ..backends import BackendOptions, Session, loader
from ..cache import ResponseCache
from ..errors import BrokenArtifact
from ..observe.metrics import ModelMetrics
from ..request import Head, InferRequest
from ..scheduling.device import DeviceScheduler, ModelTurns
from ..scheduling.intake import Intake
from ..scheduling.padding import PaddedInput, Padding
from ..scheduling.queue import BatchQueue
from ..scheduling.scheduler import Scheduler
from ..settings.options import Settings
from ..system import cpu as host
from ..system.cores import available_cores
from ..system.memory import trim
from ..tensors import ModelSpec
from . import scripted
from .side_by_side import crowding
from .tuning import Bench, tune
from .warmup import made_up, time_row, warm_up, warm_up_lengths

log = logging.getLogger("slipway.models")

INLINE_LIMIT = 5
"""A batch on the event loop may take this many times ``inline_below_us``, so that it never delays /ping for long."""

DRAIN_LOOK_S = 0.002
"""How often a queue that is being drained is looked at."""


class Held(Protocol):
    """What keeps a model in memory: one session, or those of several steps."""

    def close(self) -> None: ...


@dataclass(slots=True)
class ServedModel:
    """One version of a model, ready to answer."""

    name: str
    version: str
    spec: ModelSpec
    artifact: Artifact
    session: Held
    scheduler: Intake
    metrics: ModelMetrics
    max_batch_size: int
    fixed_shapes: bool
    rowwise: bool
    """Whether there is one row of output for each row of input. If not, a request runs whole, and alone."""
    padding: Padding | None
    cache: ResponseCache | None
    """Of this version alone, so that a new version begins with an empty one."""
    deadline_ns: int
    instances: int = 1
    choose: Callable[[Head], ServedModel] | None = None
    """Set while a part of the requests for the model's name goes to another version."""
    scripted: bool = False
    """Whether a user's script answers: it takes and gives whole bodies instead of tensors."""
    watch: Callable[[InferRequest], None] | None = None
    """Told of every admitted request while this version is compared with another one."""

    def submit(self, request: InferRequest) -> None:
        """Hand a request to the scheduler. Raises Overloaded or NotReady."""
        if not self.rowwise:
            request.rows = 1
        shape: Hashable = None
        if self.padding is not None:
            request.length = self.padding.length(request.arrays)
            shape = self.padding.shape(request.arrays)
        elif not self.fixed_shapes:
            shape = tuple(array.shape[1:] for array in request.arrays)
        self.scheduler.submit(request, shape)


class Loader:
    """Makes served models; knows nothing of names that are taken, versions or memory. Not for the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._device = _device(settings)

    def build(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        """Load and warm up. Raises BrokenArtifact, with the reason; what was begun is closed again."""
        begun_ns = perf_counter_ns()
        model = self._build_plain(artifact, loop) if artifact.script is None else self._wire_script(artifact, loop)
        model.metrics.load_seconds = (perf_counter_ns() - begun_ns) / 1e9
        log.info("model %s is ready after %.2f s", model.name, model.metrics.load_seconds)
        return model

    def _build_plain(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        batching = plan(artifact.manifest, self._settings)
        compare_host(artifact.manifest)
        session, batching = self._open_session(artifact, batching)
        try:
            return self._wire(artifact, session, batching, loop)
        except BaseException:
            session.close()
            raise

    def _wire_script(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        parts = scripted.build(artifact, self._settings, loop)
        return ServedModel(
            name=artifact.manifest.name,
            version=artifact.manifest.version,
            spec=parts.session.spec,
            artifact=artifact,
            session=parts.session,
            scheduler=parts.scheduler,
            metrics=parts.metrics,
            max_batch_size=parts.most_calls,
            fixed_shapes=True,
            rowwise=True,
            padding=None,
            cache=None,
            deadline_ns=int(self._settings.deadline_ms * 1e6),
            scripted=True,
        )

    def turns(self, threads: int) -> ModelTurns | None:
        """Where a model whose runs use this many threads takes turns with the others; None: nowhere."""
        return None if self._device is None else self._device.join(threads)

    def _open_session(self, artifact: Artifact, batching: Batching) -> tuple[Session, Batching]:
        """A session, and instances and threads as planned, or as tuned where neither manifest nor settings say."""
        load, settings = loader(artifact.manifest.backend), self._settings

        def opened(threads: int) -> Session:
            optimized = artifact.manifest.optimized
            return load(artifact.model_path, BackendOptions(threads, device=settings.device, optimized=optimized))

        begun_ns = perf_counter_ns()
        session = opened(batching.threads)
        opening_ns = perf_counter_ns() - begun_ns
        said = artifact.manifest.batching is not None or settings.instances or settings.threads
        if said or not settings.tune_ms or available_cores() == 1:
            return session, batching
        row_ns = time_row(session, artifact)
        if row_ns is None or row_ns <= settings.inline_below_us * 1_000:
            return session, batching
        bench = Bench(opened, opening_ns, available_cores(), int(settings.tune_ms * 1e6))
        tuned = tune(session, partial(made_up, session.spec, artifact), row_ns, bench)
        return tuned.session, replace(batching, instances=tuned.instances, threads=tuned.threads)

    def _wire(
        self, artifact: Artifact, session: Session, batching: Batching, loop: asyncio.AbstractEventLoop
    ) -> ServedModel:
        manifest, settings = artifact.manifest, self._settings
        if artifact.declared and session.spec != manifest.spec:
            raise BrokenArtifact(
                f"{manifest.model} has other inputs or outputs than the manifest says: export it again"
            )
        name = manifest.name
        max_batch_size, seeds, rowwise = warm_up(session, artifact, batching)
        trim()
        inline, max_batch_size = inline_within(seeds, max_batch_size, settings)
        if inline:
            batching = replace(batching, instances=1)
        metrics = ModelMetrics(name, manifest.version)
        padding = padding_of(manifest, session.spec) if rowwise else None
        sizes = warm_up_lengths(session, artifact, padding, max_batch_size) if padding is not None else {}
        crowded = _crowding(session, artifact, batching)
        queue = BatchQueue(
            max_batch_size, seeds, batching.instances, settings.max_queue_delay_us * 1_000, sizes, crowded
        )
        scheduler = Scheduler(
            queue,
            session.run,
            loop,
            instances=batching.instances,
            inline=inline,
            max_queue_ns=max(int(settings.max_queue_ms * 1e6), 2 * int(max(ns for _, ns in seeds))),
            max_queue_bytes=int(settings.max_queue_mb * 1e6),
            objects=any(one.dtype.itemsize == 0 for one in session.spec.inputs),
            padding=padding,
            turns=None if inline else self.turns(batching.threads),
            on_batch=metrics.record_run,
            name=name,
        )
        cache = ResponseCache(int(settings.cache_mb * 1e6), perf_counter_ns) if settings.cache_mb else None
        if cache is not None:
            metrics.cache_outcomes, metrics.cache_bytes = cache.outcomes, lambda: cache.bytes
        metrics.work.size(batching.instances, batching.threads)
        metrics.waiting_rows = lambda: scheduler.waiting_rows
        metrics.backlog_ns = scheduler.backlog_ns
        metrics.costs = scheduler.cost_points
        log.info(
            "model %s version %s: %s, %d instances x %d threads, batches to %d, %.0f us a row alone, %.0f at best%s",
            *(name, manifest.version, manifest.backend, batching.instances, batching.threads, max_batch_size),
            *(seeds[0][1] / 1e3, min(ns / size for size, ns in seeds) / 1e3, ", inline" if inline else ""),
        )
        return ServedModel(
            name=name,
            version=manifest.version,
            spec=session.spec,
            artifact=artifact,
            session=session,
            scheduler=scheduler,
            metrics=metrics,
            max_batch_size=max_batch_size,
            fixed_shapes=all(-1 not in spec.shape[1:] for spec in session.spec.inputs),
            rowwise=rowwise,
            padding=padding,
            cache=cache,
            deadline_ns=int(settings.deadline_ms * 1e6),
            instances=batching.instances,
        )


def _crowding(session: Session, artifact: Artifact, batching: Batching) -> float:
    """How many times longer a run takes while all instances run, where they share cores; 1 where each has its own."""
    if batching.instances == 1 or batching.instances * batching.threads <= available_cores():
        return 1.0
    return crowding(session.run, made_up(session.spec, artifact, 1), batching.instances)


def _device(settings: Settings) -> DeviceScheduler | None:
    """Where the models of this process take turns; None where the kernel alone shares the cores out."""
    if settings.sharing == "kernel":
        return None
    return DeviceScheduler(available_cores(), preemptive=settings.sharing == "turns")


async def close(model: ServedModel, drain_s: float) -> None:
    """End a model that nobody submits to any more: whatever was admitted is answered first, for ``drain_s`` at most."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + drain_s
    while model.scheduler.waiting_rows and loop.time() < give_up:  # noqa: ASYNC110 - no event a request would pay for
        await asyncio.sleep(DRAIN_LOOK_S)
    await loop.run_in_executor(None, model.scheduler.stop)
    model.scheduler.abandon()
    await loop.run_in_executor(None, _free, model.session)


def _free(session: Held) -> None:
    session.close()
    trim()


def compare_host(manifest: Manifest) -> None:
    """One warning when this host is not the one that the model was optimized on.

    Raises BrokenArtifact where that would give wrong answers: weights that were packed for another processor.
    """
    differing = host.disagreements(manifest.provenance)
    if not differing:
        return
    if manifest.optimized:
        raise BrokenArtifact(
            f"{manifest.name} holds weights packed for another host ({'; '.join(differing)}): run optimize here, or "
            "with --portable"
        )
    log.warning(
        "model %s was optimized on another host: %s; its answers hold, its speed and its rank among the candidates may "
        "not: run optimize here",
        manifest.name,
        "; ".join(differing),
    )


def plan(manifest: Manifest, settings: Settings) -> Batching:
    """How to run the model: settings over the manifest over what fits this machine."""
    declared = manifest.batching or Batching()
    instances = settings.instances or declared.instances
    fitting = max(available_cores() // instances, 1)
    threads = settings.threads or (min(declared.threads, fitting) if manifest.batching else fitting)
    sizes = declared.batch_sizes
    if settings.max_batch_size:
        sizes = (*(size for size in sizes if size < settings.max_batch_size), settings.max_batch_size)
    return Batching(sizes, instances, threads)


def padding_of(manifest: Manifest, spec: ModelSpec) -> Padding | None:
    """The manifest's variable axis by position. Raises BrokenArtifact for a tensor that the model does not have."""
    axis = manifest.padding
    if axis is None:
        return None
    inputs = {one.name: index for index, one in enumerate(spec.inputs)}
    outputs = {one.name: index for index, one in enumerate(spec.outputs)}
    unknown = [*(set(axis.inputs) - set(inputs)), *(set(axis.outputs) - set(outputs))]
    if unknown:
        raise BrokenArtifact(f"the padding of the manifest names {unknown[0]!r}, which the model does not have")
    return Padding(
        tuple(PaddedInput(inputs[name], at, value) for name, (at, value) in axis.inputs.items()),
        tuple((outputs[name], at) for name, at in axis.outputs.items()),
    )


def inline_within(seeds: list[tuple[int, float]], max_batch_size: int, settings: Settings) -> tuple[bool, int]:
    """Whether the model runs on the event loop, and the largest batch size if it does.

    What the manifest says of instances does not count for so small a model: measured without a server around it, two
    instances win; behind one, the hop to a thread costs more than the run. Two that are asked for are given.
    """
    limit_ns = settings.inline_below_us * 1_000
    if settings.instances > 1 or seeds[0][1] > limit_ns:
        return False, max_batch_size
    fitting = [size for size, ns in seeds if ns <= INLINE_LIMIT * limit_ns]
    return True, min(max(fitting, default=1), max_batch_size)
