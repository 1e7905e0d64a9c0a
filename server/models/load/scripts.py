"""Scripts: a user's script loaded in threads or worker processes, with its scheduler."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...artifact import SCRIPT, Artifact, Batching
from ...backends.lanes import summed
from ...observe.choices import Choices
from ...observe.metrics import ModelMetrics
from ...scheduling.queue import BatchQueue
from ...scheduling.scheduler import Scheduler
from ...scripts.backend_session import Runner, ScriptSession
from ...scripts.loaded_script import LoadedScript, ScriptConfig
from ...scripts.process_pool import ProcessPool
from ...scripts.requirements import FILE, check_requirements
from ...scripts.thread_pool import ThreadPool
from ...scripts.worker_main import load_message
from ...settings.options import Settings
from ...settings.reader import environment
from ...system import collector, gpu
from ...system.cores import available_cores
from ...system.gpu_shares import VISIBLE, OwnGpus, divide
from ...target import CPU
from ..script_files import program_of
from ..served import ServedModel
from .context import Build, connect
from .limits import batching_for
from .placement import backend_options, require_device

log = logging.getLogger("slipway.models")


def build(build: Build, path: Path) -> ServedModel:
    """Load the script at ``path`` and connect it. Raises BrokenArtifact, with the reason."""
    settings, limits = build.context.settings, build.context.limits
    require_device(build.artifact.manifest, settings)
    instances = settings.script_workers or settings.instances or 1
    artifact = placed(build.artifact, settings)
    manifest, gpus = artifact.manifest, gpus_of(artifact, settings)
    config = _config(artifact, path, settings, instances, gpus)
    if settings.script_worker_mb and not settings.script_workers:
        log.warning("setting has no effect model=%s setting=script_worker_mb; set script_workers too", manifest.name)
    if settings.cache_mb:
        log.warning("setting has no effect model=%s setting=cache_mb; responses of scripts are not kept", manifest.name)
    metrics, delay_ns = ModelMetrics(manifest.name, manifest.version), limits.delay_ns(artifact.declaration)
    runner, most_calls = _runner(build, artifact, config, metrics, gpus)
    session = ScriptSession(runner, limits.script_timeout_ns)
    queue = BatchQueue(most_calls, (), instances, delay_ns)  # no body can be made up to measure it with
    run, on_batch, slowdown = session.run, metrics.record_run, build.context.slowdown
    if slowdown is not None:
        run, on_batch = slowdown.scheduled(queue, run, on_batch)
    scheduler = Scheduler(
        queue,
        run,
        build.loop,
        instances=instances,
        inline=False,
        max_queue_ns=limits.script_queue_ns(manifest.name),
        max_queue_bytes=limits.max_queue_bytes,
        on_batch=on_batch,
        on_device_lost=build.context.on_device_lost,
        name=manifest.name,
    )
    metrics.work.size(instances, config.threads)
    metrics.choices = Choices(most_calls, delay_ns, limits.script_queue_ns(manifest.name), inline=False)
    connect(metrics, scheduler)
    log.info(
        "script loaded model=%s script=%s runs_in=%s instances=%d max_calls_a_run=%d",
        *(manifest.name, path.name, "processes" if settings.script_workers else "threads", instances, most_calls),
    )
    return ServedModel(
        name=manifest.name,
        version=manifest.version,
        spec=session.spec,
        artifact=build.artifact,
        session=session,
        scheduler=scheduler,
        metrics=metrics,
        max_batch_size=most_calls,
        fixed_shapes=True,
        independent=True,
        padding=None,
        cache=None,
        deadline_ns=limits.deadline_ns,
        scripted=True,
    )


def placed(artifact: Artifact, settings: Settings) -> Artifact:
    """The artifact whose manifest says where and in which closed shapes the model beside the script runs here."""
    options = backend_options(
        artifact.manifest, settings, batching_for(artifact.manifest, settings, artifact.declaration)
    )
    return replace(artifact, manifest=replace(artifact.manifest, device=options.target, shapes=options.shapes))


def gpus_of(artifact: Artifact, settings: Settings) -> Sequence[OwnGpus]:
    """The GPUs of each worker process, or of the server for threads; none on the CPU."""
    if artifact.manifest.device.kind == CPU:
        return ()
    if not settings.script_workers:
        return (OwnGpus(),)
    return divide(settings.script_workers, settings.gpus, gpu.read(), environment().get(VISIBLE))


def _obeying(artifact: Artifact, settings: Settings) -> Artifact:
    """The artifact, whose ONNX model runs one call at a time where ``--batching off`` says so."""
    if settings.batching == "auto":
        return artifact
    batching = replace(artifact.manifest.batching or Batching(), independent=False, reason="--batching off")
    return replace(artifact, manifest=replace(artifact.manifest, batching=batching))


def _config(
    artifact: Artifact, path: Path, settings: Settings, instances: int, gpus: Sequence[OwnGpus]
) -> ScriptConfig:
    handler = artifact.declaration.handler
    requirements = FILE if handler is None else handler.requirements
    beside = path.parent if handler is None else artifact.root
    return ScriptConfig(
        path=path,
        attribute=program_of(settings)[1] if handler is None else handler.attribute,
        onnx_model=artifact.manifest.backend != SCRIPT,
        shims=settings.script_shims,
        threads=settings.threads or max(available_cores(processes=settings.processes) // instances, 1),
        batch_size=settings.max_batch_size or (0 if handler is None else handler.batch_size),
        installed=check_requirements(beside, settings.script_install, requirements) if requirements else "",
        archive=handler is not None,
        device=artifact.manifest.device.kind,
        gpu_bytes=int(1e6 * min((one.memory_mb(settings.gpu_memory_mb) for one in gpus), default=0)),
    )


def _runner(
    build: Build, artifact: Artifact, config: ScriptConfig, metrics: ModelMetrics, gpus: Sequence[OwnGpus]
) -> tuple[Runner, int]:
    """The threads or processes of the script, and the most calls that one run takes."""
    settings, name = build.context.settings, artifact.manifest.name
    artifact = _obeying(artifact, settings)
    if settings.script_workers:
        most_bytes = build.context.limits.script_worker_bytes
        workers = ProcessPool(
            load_message(artifact, config),
            settings.script_workers,
            config.threads,
            name,
            most_bytes,
            settings.load_timeout_s or None,
            [",".join(one.names) for one in gpus],
        )
        metrics.script = lambda: {
            "restarted": workers.restarts,
            "killed": workers.lost,
            "outgrown": workers.outgrown,
        }
        metrics.worker_bytes = lambda: workers.bytes
        return workers, workers.most_calls
    collector.search_as_python_does()
    script = LoadedScript(artifact, config)
    session = script.device_session
    if session is not None:
        metrics.device = lambda: summed([session.counters()])
    threads = ThreadPool(script, name, metrics.work.measured(script.run))
    metrics.script = lambda: {"given_up": threads.lost}
    return threads, script.most_calls
