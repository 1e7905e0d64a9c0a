"""A model that is a user's script: found beside its artifact, loaded in threads or processes, wired to a scheduler."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from ..artifact import SCRIPT, Artifact, Manifest
from ..errors import BrokenArtifact
from ..observe.metrics import ModelMetrics
from ..scheduling.queue import BatchQueue
from ..scheduling.scheduler import Scheduler
from ..scripts import requirements, script_module
from ..scripts.backend_session import Runner, ScriptSession
from ..scripts.call import SPEC
from ..scripts.loaded_script import LoadedScript, ScriptConfig
from ..scripts.process_pool import ProcessPool
from ..scripts.thread_pool import ThreadPool
from ..scripts.worker_main import load_message
from ..settings.options import Settings
from ..system.cores import available_cores
from ..system.memory import trim

log = logging.getLogger("slipway.models")

UNMEASURED_NS = 1_000_000
"""What a script is taken to cost before it has run: nobody can make up a body for it."""


@dataclass(frozen=True, slots=True)
class ScriptedParts:
    """What a served model is made of when a script answers."""

    session: ScriptSession
    scheduler: Scheduler
    metrics: ModelMetrics
    most_calls: int


def program_of(settings: Settings) -> tuple[str, str]:
    """File name of the script, and the attribute of it that is the handler (empty: found by its shape)."""
    module, _, attribute = settings.script_handler.partition(":")
    if not module:
        return settings.script_program, attribute
    return (module if module.endswith(".py") else module + ".py"), attribute


def script_in(root: Path, settings: Settings) -> Path | None:
    """The script that lies in a model's folder, if there is one."""
    return script_module.script_in_folder(root, program_of(settings)[0])


def script_of(root: Path, settings: Settings) -> Path | None:
    """The script that a model is served by, wherever it lies, if there is one.

    Raises BrokenArtifact when the model brings one and scripts are switched off: without it, it would be another model.
    """
    if settings.scripts:
        return script_module.find_script(root, program_of(settings)[0], settings.script_directory)
    own = script_in(root, settings)
    if own is not None:
        raise BrokenArtifact(f"{root.name or 'the model'} brings the script {own.name}, and --no-scripts forbids that")
    return None


def bare(root: Path, path: Path) -> Artifact:
    """The artifact of a folder with a script and no model that we know."""
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return Artifact(root, Manifest(root.name or "model", "1", SCRIPT, inside, SPEC), declared=False)


def build(artifact: Artifact, settings: Settings, loop: asyncio.AbstractEventLoop) -> ScriptedParts:
    """Load the artifact's script, and wire it. Raises BrokenArtifact, with the reason; what was begun is closed."""
    name, path = artifact.manifest.name, artifact.script
    assert path is not None
    lanes = settings.script_workers or settings.instances or 1
    plan = ScriptConfig(
        path=path,
        attribute=program_of(settings)[1],
        onnx_model=artifact.manifest.backend != SCRIPT,
        shims=settings.script_shims,
        threads=settings.threads or max(available_cores() // lanes, 1),
        batch_size=settings.max_batch_size,
        installed=requirements.check_requirements(path.parent, settings.script_install),
    )
    if settings.script_worker_mb and not settings.script_workers:
        log.warning("model %s: --script-worker-mb means nothing without --script-workers: its script runs here", name)
    metrics = ModelMetrics(name, artifact.manifest.version)
    runner, most_calls = _runner(artifact, plan, settings, metrics)
    trim()
    # A script that takes several calls is believed that this pays, until it is measured not to.
    seeds = [(size, UNMEASURED_NS) for size in sorted({1, most_calls})]
    session = ScriptSession(runner, int(settings.script_timeout_s * 1e9))
    scheduler = Scheduler(
        BatchQueue(most_calls, seeds, lanes, settings.max_queue_delay_us * 1_000),
        session.run,
        loop,
        instances=lanes,
        inline=False,
        max_queue_ns=int(max(settings.max_queue_ms * 1e6, settings.script_timeout_s * 1e9 / 2)),
        max_queue_bytes=int(settings.max_queue_mb * 1e6),
        on_batch=metrics.record_run,
        name=name,
    )
    metrics.work.size(lanes, plan.threads)
    metrics.waiting_rows = lambda: scheduler.waiting_rows
    metrics.backlog_ns = scheduler.backlog_ns
    metrics.costs = scheduler.cost_points
    where = "processes" if settings.script_workers else "threads"
    log.info("model %s: %s in %d %s, at most %d calls a run", name, path.name, lanes, where, most_calls)
    return ScriptedParts(session, scheduler, metrics, most_calls)


def _runner(artifact: Artifact, plan: ScriptConfig, settings: Settings, metrics: ModelMetrics) -> tuple[Runner, int]:
    name = artifact.manifest.name
    if settings.script_workers:
        most_bytes = int(settings.script_worker_mb * 1e6)
        workers = ProcessPool(load_message(artifact, plan), settings.script_workers, plan.threads, name, most_bytes)
        metrics.script = lambda: {
            "restarted": workers.restarts,
            "killed": workers.lost,
            "outgrown": workers.outgrown,
        }
        metrics.worker_bytes = lambda: workers.bytes
        return workers, workers.most_calls
    program = LoadedScript(artifact, plan)
    lanes = ThreadPool(program, name)
    metrics.script = lambda: {"given_up": lanes.lost}
    return lanes, program.most_calls
