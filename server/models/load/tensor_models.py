"""Tensor models: one backend session with its scheduler, opened, tuned, warmed up and connected."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter_ns

from ...artifact import Artifact, Batching, Manifest
from ...backends import Session, backend_for, loader
from ...backends.independence import Independence
from ...backends.lanes import summed
from ...errors import BrokenArtifact
from ...observe.choices import Choices
from ...observe.metrics import ModelMetrics
from ...scheduling.padding import PaddedInput, Padding
from ...scheduling.queue import BatchQueue
from ...scheduling.run import RunModel
from ...scheduling.scheduler import Scheduler
from ...settings.options import Settings
from ...system.cores import available_cores
from ...system.memory import trim
from ...target import CPU
from ...tensors import Array, ModelSpec
from ..served import ServedModel
from .contention import contention
from .context import Build, connect
from .declared import as_declared
from .labels import with_labels
from .limits import batching_for, bounded, inline_within
from .missing import with_declared_missing, with_missing
from .on_gpu import closed_rows, fit_rows, joined_by, on_gpu
from .placement import backend_options, device_of
from .rows import rows_of, sizes_of, with_rows
from .tuning import TuningConfig, tune
from .warmup import Seeds, resized, sample_of, time_row, warm_up, warm_up_lengths

log = logging.getLogger("slipway.models")

PROBE_NS = 50_000_000
"""A model is asked whether its inputs take missing values if that takes no longer than about this."""


@dataclass(frozen=True, slots=True)
class WarmModel:
    """A session that has run every batch size, and what its scheduler starts from. ``spec``: as clients see it."""

    session: Session
    spec: ModelSpec
    batching: Batching
    max_batch_size: int
    seeds: Seeds
    lengths: dict[int, Seeds]
    rows: Independence
    inline: bool
    padding: Padding | None
    row: list[Array]


def build(build: Build) -> ServedModel:
    """Open, warm up and connect the model. Raises BrokenArtifact; the session is closed again."""
    session, sample, batching = open_session(build)
    try:
        return _serve(build, warm(build, session, sample, batching))
    except BaseException:
        session.close()
        raise


def open_session(build: Build) -> tuple[Session, list[Array], Batching]:
    """A session, rows to measure it with, and how it runs: as manifest or settings say, as tuned where neither does."""
    manifest, settings, limits = build.artifact.manifest, build.context.settings, build.context.limits
    device, batching = device_of(manifest, settings), batching_for(manifest, settings, build.artifact.declaration)
    load = loader(backend_for(manifest.backend, device))
    cores = available_cores(processes=settings.processes)

    def opened(threads: int) -> Session:
        options = backend_options(manifest, settings, replace(batching, threads=threads))
        return open_as_declared(load(build.artifact.model_path, options), build.artifact, settings)

    begun_ns = perf_counter_ns()
    session = opened(batching.threads)
    opening_ns = perf_counter_ns() - begun_ns
    try:
        sample = sample_of(session, build.artifact)
        declared = manifest.batching is not None or build.artifact.declaration.instances
        decided = device != CPU or declared or settings.instances or settings.threads
        if decided or not limits.tune_ns or cores == 1:
            return session, sample, batching
        row_ns = time_row(session, sample)
    except BaseException:
        session.close()
        raise
    if row_ns is None or row_ns <= limits.inline_below_ns:
        return session, sample, batching
    config = TuningConfig(opened, opening_ns, cores, limits.tune_ns, batchable=session.spec.batchable)
    tuned = tune(session, partial(resized, session.spec, sample), row_ns, config)
    return tuned.session, sample, replace(batching, instances=tuned.instances, threads=tuned.threads)


def open_as_declared(session: Session, artifact: Artifact, settings: Settings) -> Session:
    """The session with the rows and tensors that clients see. Raises BrokenArtifact; the session is closed again."""
    try:
        require_declared_spec(artifact, session.spec)
        return as_declared(with_rows(session, settings), artifact.declaration)
    except BaseException:
        session.close()
        raise


def require_declared_spec(artifact: Artifact, spec: ModelSpec) -> None:
    """Raises BrokenArtifact when the model's inputs and outputs are not those of the manifest."""
    if artifact.declared and spec != artifact.manifest.spec:
        raise BrokenArtifact(
            f"{artifact.manifest.model} has other inputs or outputs than the manifest says: export it again"
        )


def warm(build: Build, session: Session, sample: list[Array], batching: Batching) -> WarmModel:
    """Show how the rows of the model may be run, run every batch size and length, and decide where the model runs."""
    artifact, context = build.artifact, build.context
    begun_ns = perf_counter_ns()
    rows = rows_of(session, artifact, sample, batching.max_batch_size, context.settings)
    sizes = fit_rows(session, rows, sizes_of(artifact, session, batching, rows))
    batching = replace(batching, batch_sizes=sizes)
    spent_ns = perf_counter_ns() - begun_ns + rows.costs_ns.get(1, 0)  # the sample was run once, too
    max_batch_size, seeds = warm_up(session, artifact, batching, sample, rows.costs_ns, spent_ns)
    trim()
    inline = False
    if bounded(session.spec, rows.independent):
        inline, max_batch_size = inline_within(
            seeds, max_batch_size, context.settings.instances, context.limits.inline_below_ns
        )
    if inline:
        batching = replace(batching, instances=1)
    padding = padding_of(artifact.manifest, session.spec) if rows.independent else None
    lengths = warm_up_lengths(session, artifact, padding, max_batch_size, sample) if padding is not None else {}
    spec = _with_missing(build, session, sample, seeds)
    row = resized(session.spec, sample, 1)
    return WarmModel(session, spec, batching, max_batch_size, seeds, lengths, rows, inline, padding, row)


def _with_missing(build: Build, session: Session, sample: list[Array], seeds: Seeds) -> ModelSpec:
    """The model's inputs and outputs, and which inputs take missing values. A slow model is not asked."""
    manifest = build.artifact.manifest
    if build.context.settings.missing == "refuse":
        return session.spec
    floats = sum(one.dtype.numpy.kind == "f" for one in session.spec.inputs)
    if floats * seeds[0][1] > PROBE_NS:
        return with_declared_missing(session.spec, manifest.spec)
    return with_missing(session.run, session.spec, resized(session.spec, sample, 1), manifest.spec)


def _serve(build: Build, model: WarmModel) -> ServedModel:
    manifest, spec, limits = build.artifact.manifest, model.spec, build.context.limits
    metrics = ModelMetrics(manifest.name, manifest.version)
    metrics.work.size(model.batching.instances, model.batching.threads)
    scheduler = _schedule(build, model, metrics)
    connect(metrics, scheduler)
    gpu = on_gpu(model.session)
    if gpu is not None:
        metrics.device = lambda: summed([gpu.counters()])
    _log(manifest, model)
    return ServedModel(
        name=manifest.name,
        version=manifest.version,
        spec=with_labels(spec, manifest.labels),
        artifact=build.artifact,
        session=model.session,
        scheduler=scheduler,
        metrics=metrics,
        max_batch_size=model.max_batch_size,
        fixed_shapes=all(-1 not in one.shape[1:] for one in spec.inputs),
        independent=model.rows.independent,
        batching_reason=model.rows.reason,
        padding=model.padding,
        cache=build.context.cache(metrics),
        deadline_ns=limits.deadline_ns,
        max_rows=limits.max_rows,
        instances=model.batching.instances,
    )


def _schedule(build: Build, model: WarmModel, metrics: ModelMetrics) -> Scheduler:
    name, limits, batching = build.artifact.manifest.name, build.context.limits, model.batching
    crowding, declaration = _contention(model, batching, build.context.settings.processes), build.artifact.declaration
    delay_ns = limits.delay_ns(declaration)
    queue = BatchQueue(
        model.max_batch_size,
        model.seeds,
        batching.instances,
        delay_ns,
        model.lengths,
        crowding,
        closed_rows(model.session),
    )
    max_queue_ns = limits.tensor_queue_ns(name, max(ns for _, ns in model.seeds), declaration.queue_timeout_us)
    turns = None if model.inline else build.context.turns(build.artifact.manifest, batching.threads)
    metrics.choices = Choices(model.max_batch_size, delay_ns, max_queue_ns, model.inline, shared=turns is not None)
    metrics.contention = lambda: queue.running.contention
    run: RunModel = model.session.run
    on_batch, slowdown = metrics.record_run, build.context.slowdown
    if on_gpu(model.session) is None:
        run = metrics.work.measured(run)
    if slowdown is not None:
        run, on_batch = slowdown.scheduled(queue, run, on_batch)
    return Scheduler(
        queue,
        run,
        build.loop,
        instances=batching.instances,
        inline=model.inline,
        max_queue_ns=max_queue_ns,
        max_queue_bytes=limits.max_queue_bytes,
        objects=any(one.dtype.itemsize == 0 for one in model.session.spec.inputs),
        padding=model.padding,
        join=joined_by(model.session),
        turns=turns,
        on_batch=on_batch,
        on_device_lost=build.context.on_device_lost,
        stall_ns=limits.stall_ns,
        name=name,
    )


def _contention(model: WarmModel, batching: Batching, processes: int) -> float:
    """The slowdown of a run while all instances run, where they share cores; 1 where each has its own."""
    fitting = batching.instances * batching.threads <= available_cores(processes=processes)
    apart = fitting and on_gpu(model.session) is None
    if batching.instances == 1 or apart:
        return 1.0
    return contention(model.session.run, model.row, batching.instances)


def _log(manifest: Manifest, model: WarmModel) -> None:
    log.info(
        "model warmed up model=%s version=%s backend=%s instances=%d threads=%d max_batch_size=%d row_alone_us=%.0f "
        "row_at_best_us=%.0f inline=%s rows_independent=%s",
        *(manifest.name, manifest.version, manifest.backend, model.batching.instances, model.batching.threads),
        *(model.max_batch_size, model.seeds[0][1] / 1e3, min(ns / size for size, ns in model.seeds) / 1e3),
        "yes" if model.inline else "no",
        "yes" if model.rows.independent else "no",
    )


def padding_of(manifest: Manifest, spec: ModelSpec) -> Padding | None:
    """The manifest's variable axis, by position. Raises BrokenArtifact for a tensor that the model does not have."""
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
