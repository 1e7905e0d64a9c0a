"""The models in memory: find one, load it, warm it up, unload it."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import statistics
import zipfile
import zlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from . import artifact as artifacts
from . import host
from .artifact import Artifact, Batching, CostPoint, Manifest
from .backends import BackendOptions, Session, loader
from .cores import available_cores
from .errors import AlreadyLoaded, BrokenArtifact, SlipwayError, UnknownModel
from .observe.metrics import Metrics, ModelMetrics
from .request import InferRequest
from .scheduling.padding import PaddedInput, Padding
from .scheduling.queue import BatchQueue
from .scheduling.scheduler import Scheduler
from .settings import Settings
from .tensors import Array, ModelSpec

log = logging.getLogger("slipway.models")

WARM_RUNS = 5
WARM_BUDGET_NS = 1_000_000_000
"""The sweep stops at the batch size after which it has spent this much: a slow model should still start."""

LENGTHS_BUDGET_NS = 2_000_000_000
"""And so does the sweep over lengths."""

INLINE_LIMIT = 5
"""A batch on the event loop may take this many times ``inline_below_us``, so that it never delays /ping for long."""

UNMEASURED_NS = 1_000_000
"""The cost that a model starts from when no input for a warm-up can be made up."""

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
    padding: Padding | None
    deadline_ns: int

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
        self._metrics.add(model.metrics)
        return model

    async def unload(self, name: str) -> None:
        """Take a model away: no new requests, running batches end, memory is given back."""
        model = self.get(name)
        self._metrics.remove(model.metrics)
        del model
        await self._close(self._models.pop(name))
        await asyncio.get_running_loop().run_in_executor(None, _give_back)

    async def close(self) -> None:
        """Unload all, at the end of the process: the system gets its memory back anyway."""
        for name in list(self._models):
            await self._close(self._models.pop(name))

    async def _close(self, model: ServedModel) -> None:
        await asyncio.get_running_loop().run_in_executor(None, model.scheduler.stop)
        model.scheduler.abandon()
        model.session.close()

    def _build(self, path: Path, loop: asyncio.AbstractEventLoop) -> ServedModel:
        begun_ns = perf_counter_ns()
        artifact = open_artifact(path, self._settings)
        batching = plan(artifact.manifest, self._settings)
        compare_host(artifact.manifest)
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
        name = settings.name or manifest.name
        max_batch_size, seeds, rowwise = warm_up(session, artifact, batching)
        _trim()
        inline, max_batch_size = _inline(seeds, max_batch_size, settings)
        if inline:
            batching = replace(batching, instances=1)
        metrics = ModelMetrics(name, manifest.version)
        padding = _padding(manifest, session.spec) if rowwise else None
        sizes = warm_up_lengths(session, artifact, padding, max_batch_size) if padding is not None else {}
        scheduler = Scheduler(
            BatchQueue(max_batch_size, seeds, batching.instances, settings.max_queue_delay_us * 1_000, sizes),
            session.run,
            loop,
            instances=batching.instances,
            inline=inline,
            max_queue_ns=max(int(settings.max_queue_ms * 1e6), 2 * int(max(ns for _, ns in seeds))),
            max_queue_bytes=int(settings.max_queue_mb * 1e6),
            padding=padding,
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
            padding=padding,
            deadline_ns=int(settings.deadline_ms * 1e6),
        )


def _give_back() -> None:
    """Free what is left of a model: a scheduler and its executor know each other, so only the collector ends them."""
    gc.collect()
    _trim()


def _trim() -> None:
    """Give freed memory back to the system: glibc keeps it for later use of its own, weights and copies of them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
    bare = Manifest(path.stem, "1", "onnxruntime", path.name, ModelSpec((), ()))
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
    return max(sizes), _with_declared(seeds, artifact.manifest.cost) or [(1, UNMEASURED_NS)], True


def _with_declared(seeds: list[tuple[int, float]], declared: tuple[CostPoint, ...]) -> list[tuple[int, float]]:
    """Measured costs, and for sizes beyond them the manifest's, scaled by how this machine compares to its own.

    Without them a slow model, whose sweep ends early, would never be seen to gain from larger batches.
    """
    known = {point.batch_size: point.p50_us * 1_000 for point in declared if point.p50_us > 0}
    common = [size for size, _ in seeds if size in known]
    if not common:
        return seeds
    scale = dict(seeds)[common[-1]] / known[common[-1]]
    return [*seeds, *((size, ns * scale) for size, ns in sorted(known.items()) if size > seeds[-1][0])]


def warm_up_lengths(
    session: Session, artifact: Artifact, padding: Padding, max_batch_size: int
) -> dict[int, list[tuple[int, float]]]:
    """What one row and a full batch cost at every length that the manifest names, for the cost tables.

    What does not fit into the budget is estimated as proportional to the longest length that was measured.
    """
    declared = artifact.manifest.padding
    assert declared is not None
    sample = _samples(session.spec, artifact)
    costs: dict[int, list[tuple[int, float]]] = {}
    measured = 0
    begun_ns = perf_counter_ns()
    for length in declared.sizes:
        if measured and perf_counter_ns() - begun_ns > LENGTHS_BUDGET_NS:
            costs[length] = [(rows, ns * length / measured) for rows, ns in costs[measured]]
            continue
        costs[length] = []
        for rows in sorted({1, max_batch_size}):
            inputs = [np.resize(array, (rows, *array.shape[1:])) for array in padding.stretch(sample, length)]
            costs[length].append((rows, _measure(session, inputs)))
        measured = length
    return costs


def _padding(manifest: Manifest, spec: ModelSpec) -> Padding | None:
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
