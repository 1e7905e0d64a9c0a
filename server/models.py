"""The models in memory: find one, load it, warm it up, unload it."""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from . import artifact as artifacts
from . import host
from .artifact import Artifact, Batching, Manifest
from .backends import BackendOptions, Session, loader
from .cores import available_cores
from .errors import AlreadyLoaded, BrokenArtifact, SlipwayError, UnknownModel
from .observe.metrics import Metrics, ModelMetrics
from .request import InferRequest
from .scheduling.queue import BatchQueue
from .scheduling.scheduler import Scheduler
from .settings import Settings
from .tensors import Array, ModelSpec

log = logging.getLogger("slipway.models")

WARM_RUNS = 5
WARM_BUDGET_NS = 500_000_000
"""The sweep stops at the batch size after which it has spent this much: a slow model should still start."""

INLINE_LIMIT = 5
"""A batch on the event loop may take this many times ``inline_below_us``, so that it never delays /ping for long."""

UNMEASURED_NS = 1_000_000
"""The cost that a model starts from when no input for a warm-up can be made up."""


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
    deadline_ns: int

    def submit(self, request: InferRequest) -> None:
        """Hand a request to the scheduler. Raises Overloaded or NotReady."""
        shape: Hashable = None
        if not self.fixed_shapes:
            shape = tuple(array.shape[1:] for array in request.arrays)
        self.scheduler.submit(request, shape)


class Models:
    """All served models by name; the first is what SageMaker's /invocations means."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._models: dict[str, ServedModel] = {}

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Raises UnknownModel, naming what there is."""
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models) or "none yet"
            raise UnknownModel(f"no model named {name!r} is loaded; loaded: {known}")
        if version is not None and version != model.version:
            raise UnknownModel(f"model {name!r} has version {model.version!r}, not {version!r}")
        return model

    def default(self) -> ServedModel:
        """The model that /invocations asks. Raises UnknownModel when there is none."""
        for model in self._models.values():
            return model
        raise UnknownModel("no model is loaded")

    def all(self) -> list[ServedModel]:
        return list(self._models.values())

    async def load(self, path: Path) -> ServedModel:
        """Load and warm up a model off the event loop. Raises BrokenArtifact or AlreadyLoaded, with the reason."""
        loop = asyncio.get_running_loop()
        model = await loop.run_in_executor(None, self._build, path, loop)
        if model.name in self._models:
            await self._close(model)
            raise AlreadyLoaded(f"a model named {model.name!r} is loaded already")
        self._models[model.name] = model
        return model

    async def unload(self, name: str) -> None:
        """Take a model away: no new requests, running batches end, memory is given back."""
        model = self.get(name)
        del self._models[name]
        await self._close(model)

    async def close(self) -> None:
        for model in self.all():
            await self.unload(model.name)

    async def _close(self, model: ServedModel) -> None:
        await asyncio.get_running_loop().run_in_executor(None, model.scheduler.stop)
        model.scheduler.abandon()
        model.session.close()

    def _build(self, path: Path, loop: asyncio.AbstractEventLoop) -> ServedModel:
        begun_ns = perf_counter_ns()
        artifact = open_artifact(path, self._settings)
        manifest = artifact.manifest
        batching = plan(manifest, self._settings)
        compare_host(manifest)
        session = loader(manifest.backend)(artifact.model_path, BackendOptions(threads=batching.threads))
        if artifact.declared and session.spec != manifest.spec:
            raise BrokenArtifact(
                f"{manifest.model} has other inputs or outputs than the manifest says: export it again"
            )
        name = self._settings.name or manifest.name
        metrics = self._metrics.model(name, manifest.version)
        max_batch_size, seeds = warm_up(session, artifact, batching)
        inline, max_batch_size = _inline(seeds, max_batch_size, self._settings)
        if inline:
            batching = replace(batching, instances=1)
        scheduler = Scheduler(
            BatchQueue(
                max_batch_size, seeds, batching.instances, max_delay_ns=self._settings.max_queue_delay_us * 1_000
            ),
            session.run,
            loop,
            instances=batching.instances,
            inline=inline,
            max_queue_ns=max(int(self._settings.max_queue_ms * 1e6), 2 * int(max(ns for _, ns in seeds))),
            on_batch=lambda batch, failed: metrics.record_batch(batch.rows, failed),
            name=name,
        )
        metrics.waiting_rows = lambda: scheduler.waiting_rows
        metrics.backlog_ns = scheduler.backlog_ns
        metrics.costs = scheduler.cost_points
        metrics.load_seconds = (perf_counter_ns() - begun_ns) / 1e9
        log.info(
            "model %s version %s: %s, %d instances x %d threads, batches to %d, %.0f us a row alone, %.0f at best%s; "
            "ready after %.2f s",
            *(name, manifest.version, manifest.backend, batching.instances, batching.threads, max_batch_size),
            *(seeds[0][1] / 1e3, min(ns / size for size, ns in seeds) / 1e3, ", inline" if inline else ""),
            metrics.load_seconds,
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
            deadline_ns=int(self._settings.deadline_ms * 1e6),
        )


def open_artifact(path: Path, settings: Settings) -> Artifact:
    """An artifact directory, a directory with a bare ``model.onnx``, or an ONNX file. Raises BrokenArtifact."""
    if (path / artifacts.MANIFEST).is_file():
        artifact = artifacts.read(path)
        if settings.verify_digests:
            artifacts.verify(artifact)
        return artifact
    if path.is_dir():
        files = sorted(path.glob("*.onnx"))
        if len(files) != 1:
            found = f"{len(files)} of them" if files else "neither"
            raise BrokenArtifact(f"{path} must hold a {artifacts.MANIFEST} or one .onnx file, it holds {found}")
        path = files[0]
    if not path.is_file():
        raise BrokenArtifact(f"there is no model at {path}: pass --model DIR, or mount one there")
    if path.suffix != ".onnx":
        raise BrokenArtifact(f"{path} is not an .onnx file")
    stem = "model" if path.stem == "model" else path.stem
    bare = Manifest(stem, "1", "onnxruntime", path.name, ModelSpec((), ()))
    return Artifact(path.parent, bare, declared=False)


def compare_host(manifest: Manifest) -> None:
    """One warning when this host is not the one that the model was optimized on.

    Raises BrokenArtifact where that would give wrong answers: weights that were packed for another processor.
    """
    differing = host.disagreements(manifest.provenance)
    if not differing:
        return
    if manifest.provenance.get("prepacked"):
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


def warm_up(session: Session, artifact: Artifact, batching: Batching) -> tuple[int, list[tuple[int, float]]]:
    """Run every batch size, so that no request pays for first-time allocation.

    Returns the largest batch size that the model can really take, and (batch size, nanoseconds) for the cost table.
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
            log.warning("no warm-up: the model refuses made-up inputs at batch size %d; costs will be learnt", size)
            break
        if session.spec.batchable and any(array.shape[:1] != (size,) for array in outputs):
            log.warning("outputs do not have one row for each row of input: requests will not share a run")
            return 1, seeds or [(1, UNMEASURED_NS)]
        seeds.append((size, _measure(session, inputs)))
        if perf_counter_ns() - begun_ns > WARM_BUDGET_NS:
            break
    return max(sizes), seeds or [(1, UNMEASURED_NS)]


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
        with np.load(path, allow_pickle=False) as stored:
            try:
                return [np.ascontiguousarray(stored[f"input:{one.name}"], one.dtype.numpy) for one in spec.inputs]
            except KeyError as error:
                raise BrokenArtifact(f"{artifacts.SAMPLES} lacks an input: {error}") from error
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
    return True, max(fitting, default=1)
