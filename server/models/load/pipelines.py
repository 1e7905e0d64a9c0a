"""Pipelines: every step opened, connected, warmed up with rows that the step before it gives, and scheduled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from ... import wiring
from ...artifact import Artifact, Batching, Manifest
from ...backends import ONNX, BackendOptions, Session, Tokenizing, backend_for, loader
from ...backends.independence import Independence
from ...backends.lanes import summed
from ...errors import BrokenArtifact, SlipwayError
from ...observe.metrics import ModelMetrics
from ...observe.steps import StepMetrics
from ...request import StepTimes
from ...scheduling.batch import Batch
from ...scheduling.cost import CostTable
from ...scheduling.device import ModelTurns
from ...scheduling.padding import Padding
from ...scheduling.pipeline import Pipeline
from ...scheduling.queue import BatchQueue
from ...scheduling.scheduler import Scheduler
from ...scheduling.step import Step, rectangular
from ...tensors import Array, ModelSpec
from ...wiring import PIPELINE, StepDeclaration, Wiring
from .. import repository
from ..embedder import Embedder
from ..served import ServedModel
from .context import Build, LoadContext, connect
from .embedders import TOKENIZER, embedder_of
from .host import compare_host
from .labels import with_labels
from .limits import batching_for, bounded, inline_within
from .on_gpu import closed_rows, fit_rows, joined_by, on_gpu
from .placement import backend_options, require_device
from .rows import rows_of, sizes_of
from .tensor_models import open_as_declared, padding_of
from .text_padding import shown_padding
from .warmup import Seeds, sample_of, stored_samples, warm_up, warm_up_lengths

log = logging.getLogger("slipway.models")

BUILT_IN_SIZES = (1, 2, 4, 8, 16, 32)
NO_SPEC = ModelSpec((), ())


@dataclass(slots=True)
class OpenStep:
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
class WarmStep:
    """What the scheduler of a step starts from; ``inputs`` are the numbers of the values that the step takes."""

    step: OpenStep
    inputs: tuple[int, ...]
    max_batch_size: int
    seeds: Seeds
    lengths: dict[int, Seeds]
    inline: bool
    instances: int


class StepSessions:
    """The sessions of all steps, closed together."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._sessions = sessions

    def close(self) -> None:
        for session in self._sessions:
            session.close()


def build(build: Build) -> ServedModel:
    """Open, connect and warm up all steps. Raises BrokenArtifact naming the step; opened sessions are closed again."""
    artifact = build.artifact
    declared = artifact.manifest.pipeline
    assert declared is not None
    opened: list[OpenStep] = []
    try:
        opened.extend(_open(artifact, step, build.context) for step in declared.steps)
        wired = wiring.wire(declared, [one.session.spec for one in opened])
        _compare_spec(artifact, wired.spec)
        steps, values = _warm_up(build, opened, wired)
        embedder = embedder_of(artifact, [one.session for one in opened], wired, values)
        return _serve(build, steps, wired, embedder)
    except BaseException:
        StepSessions([one.session for one in opened]).close()
        raise


def _open(artifact: Artifact, step: StepDeclaration, context: LoadContext) -> OpenStep:
    try:
        open_step = _open_artifact if step.artifact else _open_backend
        opened = open_step(artifact.root, step, context)
        opened.padding = padding_of(opened.artifact.manifest, opened.session.spec)
    except BrokenArtifact as error:
        raise BrokenArtifact(f"step {step.name!r}: {error}") from error
    return opened


def _open_artifact(root: Path, step: StepDeclaration, context: LoadContext) -> OpenStep:
    folder, settings = root / step.artifact, context.settings
    if not repository.is_artifact(folder, settings):
        raise BrokenArtifact(f"there is no artifact {step.artifact!r}")
    artifact = repository.open_artifact(folder, settings)
    manifest = artifact.manifest
    if manifest.pipeline is not None:
        raise BrokenArtifact(f"{step.artifact!r} is a pipeline itself: name its steps here instead")
    compare_host(manifest)
    require_device(manifest, settings)
    batching = batching_for(manifest, settings, artifact.declaration)
    options = backend_options(manifest, settings, batching)
    session = loader(backend_for(manifest.backend, options.device))(artifact.model_path, options)
    return OpenStep(step, artifact, open_as_declared(session, artifact, settings), batching, own=True)


def _open_backend(root: Path, step: StepDeclaration, context: LoadContext) -> OpenStep:
    """A step of its own. An ONNX file runs on the device of the setting, the other backends on the CPU."""
    path = root / (step.file or PIPELINE)
    if step.file and not path.is_file():
        raise BrokenArtifact(f"there is no file {step.file!r}")
    batching = Batching(step.batch_sizes or BUILT_IN_SIZES, step.instances or 1, step.threads or 1)
    manifest = Manifest(step.name, "", step.backend, step.file, NO_SPEC)
    options = BackendOptions(batching.threads)
    if step.backend in ONNX:
        options = backend_options(manifest, context.settings, batching)
    session = loader(backend_for(step.backend, options.device))(path, replace(options, options=step.options))
    manifest = replace(manifest, spec=session.spec, padding=getattr(session, "padding", None))
    return OpenStep(step, Artifact(root, manifest), session, batching, own=False)


def _serve(build: Build, steps: Sequence[WarmStep], wired: Wiring, embedder: Embedder | None) -> ServedModel:
    manifest, limits = build.artifact.manifest, build.context.limits
    metrics = ModelMetrics(manifest.name, manifest.version)
    metrics.steps = recorded = [StepMetrics(one.step.name) for one in steps]

    def record(times: Sequence[StepTimes]) -> None:
        for step, one in zip(recorded, times, strict=True):
            step.record(one)

    slowest_ns = sum(max(ns for _, ns in one.seeds) for one in steps)
    pipeline = Pipeline(
        wired.outputs,
        max_queue_ns=limits.tensor_queue_ns(manifest.name, slowest_ns),
        max_queue_bytes=limits.max_queue_bytes,
        record=record,
    )
    for one, step_metrics in zip(steps, recorded, strict=True):
        pipeline.add(_schedule(build, one, metrics, step_metrics, pipeline))
    connect(metrics, pipeline)
    on_gpus = [gpu for one in steps if (gpu := on_gpu(one.step.session)) is not None]
    if on_gpus:
        metrics.device = lambda: summed(one.counters() for one in on_gpus)
    return ServedModel(
        name=manifest.name,
        version=manifest.version,
        spec=with_labels(wired.spec, manifest.labels),
        artifact=build.artifact,
        session=StepSessions([one.step.session for one in steps]),
        scheduler=pipeline,
        metrics=metrics,
        max_batch_size=max(one.max_batch_size for one in steps),
        fixed_shapes=True,  # each step compares the shapes of its own inputs
        independent=True,
        padding=None,
        cache=build.context.cache(metrics),
        deadline_ns=limits.deadline_ns,
        max_rows=limits.max_rows,
        embedder=embedder,
    )


def _warm_up(build: Build, opened: Sequence[OpenStep], wired: Wiring) -> tuple[list[WarmStep], list[Array]]:
    """Run every batch size of every step, with rows that have come through the steps before it; these values too."""
    artifact, first = build.artifact, opened[0]
    values: list[Array] = stored_samples(wired.spec, artifact) or list(getattr(first.session, "sample", ()))
    values = values or sample_of(first.session, first.artifact)
    steps = []
    for one, inputs in zip(opened, wired.inputs, strict=True):
        try:
            sample = list(rectangular([values[index] for index in inputs], one.session.spec, one.padding, one.name))
            _pad(one, sample, first)
            steps.append(_warm_one(build, one, inputs, sample))
            values = [*values, *_through(one.session, sample, steps[-1].max_batch_size)]
        except BrokenArtifact as error:
            raise BrokenArtifact(f"step {one.name!r}: {error}") from error
    return steps, values


def _pad(one: OpenStep, sample: list[Array], first: OpenStep) -> None:
    """Let a step without a manifest pad texts, where its answers are shown not to change."""
    if one.own and not one.artifact.declared and first.declaration.backend == TOKENIZER:
        tokenizer = cast(Tokenizing, first.session)
        axis = shown_padding(one.session, sample, tokenizer.pad_id, tokenizer.max_length)
        one.artifact = replace(one.artifact, manifest=replace(one.artifact.manifest, padding=axis))
        one.padding = padding_of(one.artifact.manifest, one.session.spec)


def _through(session: Session, sample: list[Array], most: int) -> list[Array]:
    """The outputs of a step for a sample, at most so many rows a run."""
    starts = range(0, len(sample[0]), most)
    runs = [session.run([array[start : start + most] for array in sample]) for start in starts]
    return runs[0] if len(runs) == 1 else [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def _warm_one(build: Build, one: OpenStep, inputs: tuple[int, ...], sample: list[Array]) -> WarmStep:
    context = build.context
    batching = _batching(one, sample, context)
    max_batch_size, seeds = warm_up(one.session, one.artifact, batching, sample)
    inline = False
    if bounded(one.session.spec, independent=True):  # the rows of a step may always be cut
        inline, max_batch_size = inline_within(
            seeds, max_batch_size, context.settings.instances, context.limits.inline_below_ns
        )
    lengths = {}
    if one.padding is not None:
        lengths = warm_up_lengths(one.session, one.artifact, one.padding, max_batch_size, sample)
    instances = 1 if inline else one.batching.instances
    log.info(
        "step warmed up model=%s step=%s instances=%d threads=%d max_batch_size=%d row_alone_us=%.0f "
        "row_at_best_us=%.0f inline=%s",
        *(build.artifact.manifest.name, one.name, instances, one.batching.threads, max_batch_size, seeds[0][1] / 1e3),
        *(min(ns / size for size, ns in seeds) / 1e3, "yes" if inline else "no"),
    )
    return WarmStep(one, inputs, max_batch_size, seeds, lengths, inline, instances)


def _batching(one: OpenStep, sample: list[Array], context: LoadContext) -> Batching:
    """How a step runs. Where its rows are not shown to be independent, each of them runs alone.

    Raises BrokenArtifact for a step that does not give one row of output for each row of input.
    """
    if not one.own:
        return one.batching
    rows = rows_of(one.session, one.artifact, sample, one.batching.max_batch_size, context.settings)
    sizes = fit_rows(one.session, rows, sizes_of(one.artifact, one.session, one.batching, rows))
    if not rows.independent:
        _require_rows(one.session, sample, rows)
    return replace(one.batching, batch_sizes=sizes)


def _require_rows(session: Session, sample: list[Array], rows: Independence) -> None:
    """Raises BrokenArtifact unless a row alone gives one row."""
    try:
        outputs = session.run([array[:1] if array.ndim else array for array in sample])
    except SlipwayError as error:
        raise BrokenArtifact(f"it refuses the rows of the step before it: {error}") from error
    if not rows.one_each or any(array.shape[:1] != (1,) for array in outputs):
        raise BrokenArtifact("it does not give one row of output for each row of input, so it cannot be a step")


def _schedule(
    build: Build, warm: WarmStep, metrics: ModelMetrics, step_metrics: StepMetrics, pipeline: Pipeline
) -> Step:
    one, context, gpu = warm.step, build.context, on_gpu(warm.step.session)
    delay_ns = context.limits.delay_ns(one.artifact.declaration) if one.own else 0

    def on_batch(batch: Batch, failed: int) -> None:
        step_metrics.record_run(batch, failed)
        metrics.failed_slices += failed
        step.learn(batch)

    scheduler = Scheduler(
        BatchQueue(
            *(warm.max_batch_size, warm.seeds, warm.instances, delay_ns, warm.lengths), closed=closed_rows(one.session)
        ),
        step_metrics.work.measured(one.session.run) if gpu is None else one.session.run,
        build.loop,
        instances=warm.instances,
        inline=warm.inline,
        max_queue_ns=0,  # the pipeline admits
        padding=one.padding,
        join=joined_by(one.session),
        turns=_turns(warm, context),
        on_batch=on_batch,
        on_end=pipeline.ended,
        on_device_lost=context.on_device_lost,
        stall_ns=context.limits.stall_ns,
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
        inputs=warm.inputs,
        alone_ns=cost.predict_ns(1),
        row_ns=cost.row_ns,
        full=cost.efficient_rows(warm.max_batch_size),
        instances=warm.instances,
        padding=one.padding,
        sizes=tuple(sorted(warm.lengths)),
    )
    return step


def _turns(warm: WarmStep, context: LoadContext) -> ModelTurns | None:
    """The turns of a step at its device. Built-in steps of the CPU are too short to wait for one."""
    one = warm.step
    if warm.inline or not (one.own or on_gpu(one.session)):
        return None
    return context.turns(one.artifact.manifest, one.batching.threads)


def _compare_spec(artifact: Artifact, spec: ModelSpec) -> None:
    """Raises BrokenArtifact when the manifest names inputs or outputs, and the steps have others."""
    said = artifact.manifest.spec
    for name, theirs, ours in (("inputs", said.inputs, spec.inputs), ("outputs", said.outputs, spec.outputs)):
        if theirs and [one.to_json() for one in theirs] != [one.to_json() for one in ours]:
            have = ", ".join(f"{one.name} {one.dtype.name} {list(one.shape)}" for one in ours)
            raise BrokenArtifact(f"the manifest names other {name} than the steps have: {have}")
