"""Pipelines from their artifacts: every step opened, wired, warmed up with what the step before it gives, scheduled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns

from .. import wiring
from ..artifact import SAMPLES, Artifact, Batching, Manifest
from ..backends import BackendOptions, Session, loader
from ..cache import ResponseCache
from ..errors import BrokenArtifact
from ..observe.metrics import ModelMetrics
from ..observe.steps import StepMetrics
from ..request import StepTimes
from ..scheduling.batch import Batch
from ..scheduling.cost import CostTable
from ..scheduling.padding import Padding
from ..scheduling.pipeline import Pipeline
from ..scheduling.queue import BatchQueue
from ..scheduling.scheduler import Scheduler
from ..scheduling.step import Step, rectangular
from ..system.memory import trim
from ..tensors import Array, ModelSpec
from ..wiring import PIPELINE, StepDeclaration, Wiring
from . import repository
from .loading import Loader, ServedModel, compare_host, inline_within, padding_of, plan
from .warmup import Seeds, samples, warm_up, warm_up_lengths

log = logging.getLogger("slipway.models")

BUILT_IN_SIZES = (1, 2, 4, 8, 16, 32)


@dataclass(slots=True)
class Opened:
    """A step whose model is in memory. ``own``: it is an artifact and brings batch sizes, padding and samples."""

    declaration: StepDeclaration
    artifact: Artifact
    session: Session
    batching: Batching
    own: bool
    padding: Padding | None = None

    @property
    def name(self) -> str:
        return self.declaration.name


@dataclass(frozen=True, slots=True)
class Warm:
    """What a step's scheduler starts from."""

    max_batch_size: int
    seeds: Seeds
    sizes: dict[int, Seeds]
    inline: bool
    instances: int


class Sessions:
    """The models of all steps, closed together."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions

    def close(self) -> None:
        for session in self._sessions:
            session.close()


class Assembler(Loader):
    """Builds pipelines, and leaves every other model to the loader that it is."""

    def build(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        """As the loader's. Raises BrokenArtifact naming the step that is broken; what was begun is closed again."""
        declared = artifact.manifest.pipeline
        if declared is None:
            return super().build(artifact, loop)
        begun_ns = perf_counter_ns()
        compare_host(artifact.manifest)
        opened: list[Opened] = []
        try:
            opened.extend(self._open(artifact, step) for step in declared.steps)
            wired = wiring.wire(declared, [one.session.spec for one in opened])
            _compare_spec(artifact, wired.spec)
            model = self._assemble(artifact, opened, wired, loop)
        except BaseException:
            Sessions([one.session for one in opened]).close()
            raise
        trim()
        model.metrics.load_seconds = (perf_counter_ns() - begun_ns) / 1e9
        log.info("pipeline %s is ready after %.2f s", model.name, model.metrics.load_seconds)
        return model

    def _open(self, artifact: Artifact, step: StepDeclaration) -> Opened:
        try:
            opened = self._open_artifact(artifact.root, step) if step.artifact else _open_backend(artifact, step)
            opened.padding = padding_of(opened.artifact.manifest, opened.session.spec)
        except BrokenArtifact as error:
            raise BrokenArtifact(f"step {step.name!r}: {error}") from error
        return opened

    def _open_artifact(self, root: Path, step: StepDeclaration) -> Opened:
        folder = root / step.artifact
        if not repository.is_artifact(folder, self._settings):
            raise BrokenArtifact(f"there is no artifact {step.artifact!r}")
        artifact = repository.open_artifact(folder, self._settings)
        manifest = artifact.manifest
        if manifest.pipeline is not None:
            raise BrokenArtifact(f"{step.artifact!r} is a pipeline itself: name its steps here instead")
        compare_host(manifest)
        batching = plan(manifest, self._settings)
        options = BackendOptions(batching.threads, device=self._settings.device, optimized=manifest.optimized)
        session = loader(manifest.backend)(artifact.model_path, options)
        if artifact.declared and session.spec != manifest.spec:
            session.close()
            raise BrokenArtifact(
                f"{manifest.model} has other inputs or outputs than its manifest says: export it again"
            )
        return Opened(step, artifact, session, batching, own=True)

    def _assemble(
        self, artifact: Artifact, opened: Sequence[Opened], wired: Wiring, loop: asyncio.AbstractEventLoop
    ) -> ServedModel:
        manifest, settings = artifact.manifest, self._settings
        warm = self._warm_up(artifact, opened, wired)
        metrics = ModelMetrics(manifest.name, manifest.version)
        metrics.steps = steps = [StepMetrics(one.name) for one in opened]

        def record(times: Sequence[StepTimes]) -> None:
            for step, one in zip(steps, times, strict=True):
                step.record(one)

        slowest_ns = sum(max(ns for _, ns in one.seeds) for one in warm)
        pipeline = Pipeline(
            wired.outputs,
            max_queue_ns=max(int(settings.max_queue_ms * 1e6), 2 * int(slowest_ns)),
            max_queue_bytes=int(settings.max_queue_mb * 1e6),
            record=record,
        )
        for index, (one, started) in enumerate(zip(opened, warm, strict=True)):
            pipeline.add(self._schedule(one, started, wired.inputs[index], metrics, steps[index], pipeline, loop))
        cache = ResponseCache(int(settings.cache_mb * 1e6), perf_counter_ns) if settings.cache_mb else None
        if cache is not None:
            metrics.cache_outcomes, metrics.cache_bytes = cache.outcomes, lambda: cache.bytes
        metrics.waiting_rows = lambda: pipeline.waiting_rows
        metrics.backlog_ns = pipeline.backlog_ns
        return ServedModel(
            name=manifest.name,
            version=manifest.version,
            spec=wired.spec,
            artifact=artifact,
            session=Sessions([one.session for one in opened]),
            scheduler=pipeline,
            metrics=metrics,
            max_batch_size=max(one.max_batch_size for one in warm),
            fixed_shapes=True,  # every step looks at its own
            rowwise=True,
            padding=None,
            cache=cache,
            deadline_ns=int(settings.deadline_ms * 1e6),
        )

    def _warm_up(self, artifact: Artifact, opened: Sequence[Opened], wired: Wiring) -> list[Warm]:
        """Run every batch size of every step, with rows that have come through the steps before it."""
        first = opened[0]
        given = list(getattr(first.session, "sample", ())) or samples(first.session.spec, first.artifact)
        if artifact.declared and (artifact.root / SAMPLES).is_file():
            given = samples(wired.spec, artifact)
        values: list[Array] = list(given)
        warm = []
        for one, inputs in zip(opened, wired.inputs, strict=True):
            try:
                sample = list(rectangular([values[index] for index in inputs], one.session.spec, one.padding, one.name))
                warm.append(self._warm_one(one, sample))
                values += one.session.run(sample)
            except BrokenArtifact as error:
                raise BrokenArtifact(f"step {one.name!r}: {error}") from error
        return warm

    def _warm_one(self, one: Opened, sample: list[Array]) -> Warm:
        max_batch_size, seeds, rowwise = warm_up(one.session, one.artifact, one.batching, sample)
        if not rowwise:
            raise BrokenArtifact("it does not give one row of output for each row of input, so it cannot be a step")
        inline = False
        if all(spec.dtype.itemsize for spec in one.session.spec.inputs):
            # What a text or an image costs depends on its size, and the event loop would wait for it.
            inline, max_batch_size = inline_within(seeds, max_batch_size, self._settings)
        sizes = {}
        if one.padding is not None:
            sizes = warm_up_lengths(one.session, one.artifact, one.padding, max_batch_size, sample)
        instances = 1 if inline else one.batching.instances
        log.info(
            "step %s: %d instances x %d threads, batches to %d, %.0f us a row alone, %.0f at best%s",
            *(one.name, instances, one.batching.threads, max_batch_size, seeds[0][1] / 1e3),
            *(min(ns / size for size, ns in seeds) / 1e3, ", inline" if inline else ""),
        )
        return Warm(max_batch_size, seeds, sizes, inline, instances)

    def _schedule(
        self,
        one: Opened,
        warm: Warm,
        inputs: tuple[int, ...],
        metrics: ModelMetrics,
        step_metrics: StepMetrics,
        pipeline: Pipeline,
        loop: asyncio.AbstractEventLoop,
    ) -> Step:
        delay_ns = self._settings.max_queue_delay_us * 1_000 if one.own else 0

        def on_batch(batch: Batch, failed: int) -> None:
            step_metrics.record_run(batch, failed)
            metrics.failed_slices += failed
            step.learn(batch)

        scheduler = Scheduler(
            BatchQueue(warm.max_batch_size, warm.seeds, warm.instances, delay_ns, warm.sizes),
            one.session.run,
            loop,
            instances=warm.instances,
            inline=warm.inline,
            max_queue_ns=0,  # the pipeline admits
            padding=one.padding,
            turns=self.turns(one.batching.threads) if one.own and not warm.inline else None,
            on_batch=on_batch,
            on_end=pipeline.ended,
            name=f"{metrics.labels[0]}.{one.name}",
        )
        step_metrics.work.size(warm.instances, one.batching.threads)
        step_metrics.waiting_rows = lambda: scheduler.waiting_rows
        step_metrics.costs = scheduler.cost_points
        cost = CostTable(warm.max_batch_size, warm.seeds)
        step = Step(
            name=one.name,
            spec=one.session.spec,
            scheduler=scheduler,
            inputs=inputs,
            alone_ns=cost.predict_ns(1),
            row_ns=cost.row_ns,
            full=cost.efficient_rows(warm.max_batch_size),
            instances=warm.instances,
            padding=one.padding,
            sizes=tuple(sorted(warm.sizes)),
        )
        return step


def _open_backend(artifact: Artifact, step: StepDeclaration) -> Opened:
    path = artifact.root / (step.file or PIPELINE)
    if step.file and not path.is_file():
        raise BrokenArtifact(f"there is no file {step.file!r}")
    batching = Batching(step.batch_sizes or BUILT_IN_SIZES, step.instances or 1, step.threads or 1)
    session = loader(step.backend)(path, BackendOptions(batching.threads, step.options))
    manifest = Manifest(step.name, "", step.backend, step.file, session.spec)
    padding = getattr(session, "padding", None)
    return Opened(step, Artifact(artifact.root, replace(manifest, padding=padding)), session, batching, own=False)


def _compare_spec(artifact: Artifact, spec: ModelSpec) -> None:
    """What the manifest says of inputs and outputs, if it says anything, must be what the steps come to."""
    said = artifact.manifest.spec
    for name, theirs, ours in (("inputs", said.inputs, spec.inputs), ("outputs", said.outputs, spec.outputs)):
        if theirs and [one.to_json() for one in theirs] != [one.to_json() for one in ours]:
            have = ", ".join(f"{one.name} {one.dtype.name} {list(one.shape)}" for one in ours)
            raise BrokenArtifact(f"the manifest names other {name} than the steps have: {have}")
