"""A model from its artifact: opened, planned, warmed up, wired to its scheduler, and closed again."""

from __future__ import annotations

import asyncio
import logging
import statistics
import zipfile
import zlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from time import perf_counter_ns

import numpy as np

from .. import artifact as artifacts
from ..artifact import Artifact, Batching, Manifest
from ..backends import BackendOptions, Session, loader
from ..cores import available_cores
from ..errors import BrokenArtifact, SlipwayError
from ..observe.metrics import ModelMetrics
from ..request import Head, InferRequest
from ..scheduling.queue import BatchQueue
from ..scheduling.scheduler import Scheduler
from ..settings import Settings
from ..tensors import Array, ModelSpec
from .memory import trim

log = logging.getLogger("slipway.models")

WARM_RUNS = 5
WARM_BUDGET_NS = 500_000_000
"""The sweep stops at the batch size after which it has spent this much: a slow model should still start."""

INLINE_LIMIT = 5
"""A batch on the event loop may take this many times ``inline_below_us``, so that it never delays /ping for long."""

UNMEASURED_NS = 1_000_000
"""The cost that a model starts from when no input for a warm-up can be made up."""

DRAIN_LOOK_S = 0.002
"""How often a queue that is being drained is looked at."""

UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is no archive of plain arrays."""


@dataclass(slots=True)
class ServedModel:
    """One version of a model, ready to answer."""

    name: str
    version: str
    spec: ModelSpec
    artifact: Artifact
    session: Session
    scheduler: Scheduler
    metrics: ModelMetrics
    max_batch_size: int
    fixed_shapes: bool
    rowwise: bool
    """Whether there is one row of output for each row of input. If not, a request runs whole, and alone."""
    deadline_ns: int
    choose: Callable[[Head], ServedModel] | None = None
    """Set while a part of the requests for the model's name goes to another version."""
    watch: Callable[[InferRequest], None] | None = None
    """Told of every admitted request while this version is compared with another one."""

    def submit(self, request: InferRequest) -> None:
        """Hand a request to the scheduler. Raises Overloaded or NotReady."""
        if not self.rowwise:
            request.rows = 1
        shape: Hashable = None
        if not self.fixed_shapes:
            shape = tuple(array.shape[1:] for array in request.arrays)
        self.scheduler.submit(request, shape)


class Loader:
    """Makes served models; knows nothing of names that are taken, versions or memory. Not for the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def build(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        """Load and warm up. Raises BrokenArtifact, with the reason; what was begun is closed again."""
        begun_ns = perf_counter_ns()
        batching = plan(artifact.manifest, self._settings)
        session = loader(artifact.manifest.backend)(artifact.model_path, BackendOptions(threads=batching.threads))
        try:
            model = self._wire(artifact, session, batching, loop)
        except BaseException:
            session.close()
            raise
        model.metrics.load_seconds = (perf_counter_ns() - begun_ns) / 1e9
        log.info("model %s is ready after %.2f s", model.name, model.metrics.load_seconds)
        return model

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
        inline, max_batch_size = _inline(seeds, max_batch_size, settings)
        if inline:
            batching = replace(batching, instances=1)
        metrics = ModelMetrics(name, manifest.version)
        scheduler = Scheduler(
            BatchQueue(max_batch_size, seeds, batching.instances, max_delay_ns=settings.max_queue_delay_us * 1_000),
            session.run,
            loop,
            instances=batching.instances,
            inline=inline,
            max_queue_ns=max(int(settings.max_queue_ms * 1e6), 2 * int(max(ns for _, ns in seeds))),
            on_batch=lambda batch, failed: metrics.record_batch(batch.rows, failed),
            name=name,
        )
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
            deadline_ns=int(settings.deadline_ms * 1e6),
        )


async def close(model: ServedModel, drain_s: float) -> None:
    """End a model that nobody submits to any more: whatever was admitted is answered first, for ``drain_s`` at most."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + drain_s
    while model.scheduler.waiting_rows and loop.time() < give_up:  # noqa: ASYNC110 - no event a request would pay for
        await asyncio.sleep(DRAIN_LOOK_S)
    await loop.run_in_executor(None, model.scheduler.stop)
    model.scheduler.abandon()
    await loop.run_in_executor(None, _free, model.session)


def _free(session: Session) -> None:
    session.close()
    trim()


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


def warm_up(session: Session, artifact: Artifact, batching: Batching) -> tuple[int, list[tuple[int, float]], bool]:
    """Run every batch size, so that no request pays for first-time allocation.

    Returns the largest batch size that the model can really take, (batch size, nanoseconds) for the cost table, and
    whether the model gives one row of output for each row of input.
    Raises BrokenArtifact when the model cannot run its own samples.
    """
    sample = _samples(session.spec, artifact)
    sizes = batching.batch_sizes if session.spec.batchable else (1,)
    seeds: list[tuple[int, float]] = []
    begun_ns = perf_counter_ns()
    for size in sizes:
        inputs = [np.resize(array, (size, *array.shape[1:])) for array in sample] if session.spec.batchable else sample
        try:
            outputs = session.run(inputs)
        except SlipwayError as error:
            if artifact.declared:
                raise BrokenArtifact(f"the model cannot run its own samples at batch size {size}: {error}") from error
            if seeds:
                log.warning("the model refuses %d rows: batches stay at what it takes; %s", size, error)
                return seeds[-1][0], seeds, True
            log.warning("no warm-up: the model refuses made-up inputs; costs will be learnt; %s", error)
            break
        if session.spec.batchable and any(array.shape[:1] != (size,) for array in outputs):
            log.warning("outputs do not have one row for each row of input: requests will not share a run")
            return 1, [one for one in seeds if one[0] == 1] or [(1, UNMEASURED_NS)], False
        seeds.append((size, _measure(session, inputs)))
        if perf_counter_ns() - begun_ns > WARM_BUDGET_NS:
            break
    return max(sizes), seeds or [(1, UNMEASURED_NS)], True


def _measure(session: Session, inputs: list[Array]) -> float:
    """Median nanoseconds of a few runs; one run is enough for a model that is slow."""
    taken = []
    for _ in range(WARM_RUNS):
        begun_ns = perf_counter_ns()
        session.run(inputs)
        taken.append(perf_counter_ns() - begun_ns)
        if sum(taken) > WARM_BUDGET_NS / 10:
            break
    return statistics.median(taken)


def _samples(spec: ModelSpec, artifact: Artifact) -> list[Array]:
    """Real inputs where the artifact has some; zeros, and eight of everything variable, where it has not."""
    path = artifact.root / artifacts.SAMPLES
    if artifact.declared and path.is_file():
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return [np.asarray(stored[f"input:{one.name}"], one.dtype.numpy, order="C") for one in spec.inputs]
        except KeyError as error:
            raise BrokenArtifact(f"{artifacts.SAMPLES} lacks an input: {error}") from error
        except UNREADABLE as error:
            raise BrokenArtifact(f"{artifacts.SAMPLES} cannot be read: {error}") from error
    samples = []
    for one in spec.inputs:
        shape = tuple(8 if size == -1 else size for size in one.shape)
        if spec.batchable:
            shape = (1, *shape[1:])
        samples.append(np.full(shape, "", object) if one.dtype.itemsize == 0 else np.zeros(shape, one.dtype.numpy))
    return samples


def _inline(seeds: list[tuple[int, float]], max_batch_size: int, settings: Settings) -> tuple[bool, int]:
    """Whether the model runs on the event loop, and the largest batch size if it does.

    What the manifest says of instances does not count for so small a model: measured without a server around it, two
    instances win; behind one, the hop to a thread costs more than the run. Two that are asked for are given.
    """
    limit_ns = settings.inline_below_us * 1_000
    if settings.instances > 1 or seeds[0][1] > limit_ns:
        return False, max_batch_size
    fitting = [size for size, ns in seeds if ns <= INLINE_LIMIT * limit_ns]
    return True, min(max(fitting, default=1), max_batch_size)
