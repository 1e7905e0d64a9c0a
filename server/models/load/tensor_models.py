"""Tensor models: one backend session with its scheduler, opened, tuned, warmed up and connected."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter_ns

from ...artifact import Artifact, Batching, Manifest
from ...backends import BackendOptions, Session, loader
from ...errors import BrokenArtifact
from ...observe.metrics import ModelMetrics
from ...scheduling.padding import PaddedInput, Padding
from ...scheduling.queue import BatchQueue
from ...scheduling.scheduler import Scheduler
from ...system.cores import available_cores
from ...system.memory import trim
from ...tensors import ModelSpec
from ..served import ServedModel
from .contention import contention
from .context import Build, connect
from .limits import batching_for, inline_within
from .tuning import TuningConfig, tune
from .warmup import Seeds, synthetic_rows, time_row, warm_up, warm_up_lengths

log = logging.getLogger("slipway.models")


@dataclass(frozen=True, slots=True)
class WarmModel:
    """A session that has run every batch size, and what its scheduler starts from."""

    session: Session
    batching: Batching
    max_batch_size: int
    seeds: Seeds
    lengths: dict[int, Seeds]
    rowwise: bool
    inline: bool
    padding: Padding | None


def build(build: Build) -> ServedModel:
    """Open, warm up and connect the model. Raises BrokenArtifact; the session is closed again."""
    session, batching = open_session(build)
    try:
        return _serve(build, warm(build, session, batching))
    except BaseException:
        session.close()
        raise


def open_session(build: Build) -> tuple[Session, Batching]:
    """A session, and how it runs: as manifest or settings say, as tuned where neither does."""
    manifest, settings, limits = build.artifact.manifest, build.context.settings, build.context.limits
    load, batching = loader(manifest.backend), batching_for(manifest, settings)

    def opened(threads: int) -> Session:
        return load(
            build.artifact.model_path, BackendOptions(threads, device=settings.device, optimized=manifest.optimized)
        )

    begun_ns = perf_counter_ns()
    session = opened(batching.threads)
    opening_ns = perf_counter_ns() - begun_ns
    decided = manifest.batching is not None or settings.instances or settings.threads
    if decided or not limits.tune_ns or available_cores() == 1:
        return session, batching
    row_ns = time_row(session, build.artifact)
    if row_ns is None or row_ns <= limits.inline_below_ns:
        return session, batching
    config = TuningConfig(opened, opening_ns, available_cores(), limits.tune_ns)
    tuned = tune(session, partial(synthetic_rows, session.spec, build.artifact), row_ns, config)
    return tuned.session, replace(batching, instances=tuned.instances, threads=tuned.threads)


def require_declared_spec(artifact: Artifact, spec: ModelSpec) -> None:
    """Raises BrokenArtifact when the model's inputs and outputs are not those of the manifest."""
    if artifact.declared and spec != artifact.manifest.spec:
        raise BrokenArtifact(
            f"{artifact.manifest.model} has other inputs or outputs than the manifest says: export it again"
        )


def warm(build: Build, session: Session, batching: Batching) -> WarmModel:
    """Run every batch size and length, and decide whether the model runs on the event loop."""
    artifact, context = build.artifact, build.context
    require_declared_spec(artifact, session.spec)
    max_batch_size, seeds, rowwise = warm_up(session, artifact, batching)
    trim()
    inline, max_batch_size = inline_within(
        seeds, max_batch_size, context.settings.instances, context.limits.inline_below_ns
    )
    if inline:
        batching = replace(batching, instances=1)
    padding = padding_of(artifact.manifest, session.spec) if rowwise else None
    lengths = warm_up_lengths(session, artifact, padding, max_batch_size) if padding is not None else {}
    return WarmModel(session, batching, max_batch_size, seeds, lengths, rowwise, inline, padding)


def _serve(build: Build, model: WarmModel) -> ServedModel:
    manifest, spec, limits = build.artifact.manifest, model.session.spec, build.context.limits
    metrics = ModelMetrics(manifest.name, manifest.version)
    metrics.work.size(model.batching.instances, model.batching.threads)
    scheduler = _schedule(build, model, metrics)
    connect(metrics, scheduler)
    _log(manifest, model)
    return ServedModel(
        name=manifest.name,
        version=manifest.version,
        spec=spec,
        artifact=build.artifact,
        session=model.session,
        scheduler=scheduler,
        metrics=metrics,
        max_batch_size=model.max_batch_size,
        fixed_shapes=all(-1 not in one.shape[1:] for one in spec.inputs),
        rowwise=model.rowwise,
        padding=model.padding,
        cache=build.context.cache(metrics),
        deadline_ns=limits.deadline_ns,
        instances=model.batching.instances,
    )


def _schedule(build: Build, model: WarmModel, metrics: ModelMetrics) -> Scheduler:
    name, limits, batching = build.artifact.manifest.name, build.context.limits, model.batching
    queue = BatchQueue(
        model.max_batch_size,
        model.seeds,
        batching.instances,
        limits.max_queue_delay_ns,
        model.lengths,
        _contention(build.artifact, model.session, batching),
    )
    return Scheduler(
        queue,
        model.session.run,
        build.loop,
        instances=batching.instances,
        inline=model.inline,
        max_queue_ns=limits.tensor_queue_ns(name, max(ns for _, ns in model.seeds)),
        max_queue_bytes=limits.max_queue_bytes,
        objects=any(one.dtype.itemsize == 0 for one in model.session.spec.inputs),
        padding=model.padding,
        turns=None if model.inline else build.context.turns(batching.threads),
        on_batch=metrics.record_run,
        name=name,
    )


def _contention(artifact: Artifact, session: Session, batching: Batching) -> float:
    """The slowdown of a run while all instances run, where they share cores; 1 where each has its own."""
    if batching.instances == 1 or batching.instances * batching.threads <= available_cores():
        return 1.0
    return contention(session.run, synthetic_rows(session.spec, artifact, 1), batching.instances)


def _log(manifest: Manifest, model: WarmModel) -> None:
    log.info(
        "model warmed up model=%s version=%s backend=%s instances=%d threads=%d max_batch_size=%d row_alone_us=%.0f "
        "row_at_best_us=%.0f inline=%s",
        *(manifest.name, manifest.version, manifest.backend, model.batching.instances, model.batching.threads),
        *(model.max_batch_size, model.seeds[0][1] / 1e3, min(ns / size for size, ns in model.seeds) / 1e3),
        "yes" if model.inline else "no",
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
