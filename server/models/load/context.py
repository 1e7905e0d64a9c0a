"""The loading context: what the builders of all kinds of models share, and how a model is connected to its metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any

from ...artifact import NO_OVERRIDES, Artifact, Manifest, Overrides
from ...cache import ResponseCache
from ...observe.metrics import ModelMetrics
from ...scheduling.device import DeviceScheduler, ModelTurns
from ...scheduling.intake import Intake
from ...settings.options import Settings
from ...slowdown import Slowdown
from ...system.cores import available_cores
from ...target import CPU
from .limits import SchedulingLimits
from .placement import device_of, gpu_count

GPU_SLOTS = 2
"""Batches of all models that may be under way on each GPU: one computes while the next one is copied."""


@dataclass(frozen=True, slots=True)
class LoadContext:
    """Settings, the limits that follow from them, and the devices that the models of this process share.

    ``device``: the cores; None where the operating system alone shares them out. ``gpus``: the GPUs together, where no
    run can be interrupted. ``on_device_lost`` is called on the event loop, once or more, with the reason.
    ``slowdown`` is None where no stage can be slowed.
    """

    settings: Settings
    limits: SchedulingLimits
    device: DeviceScheduler | None
    gpus: DeviceScheduler
    on_device_lost: Callable[[str], None]
    slowdown: Slowdown | None = None

    @classmethod
    def of(cls, settings: Settings, slowdown: Slowdown | None, on_device_lost: Callable[[str], None]) -> LoadContext:
        shared = settings.sharing != "kernel"
        device = (
            DeviceScheduler(available_cores(processes=settings.processes), preemptive=settings.sharing == "turns")
            if shared
            else None
        )
        gpus = DeviceScheduler(GPU_SLOTS * gpu_count(settings), preemptive=False)
        return cls(settings, SchedulingLimits.of(settings), device, gpus, on_device_lost, slowdown)

    def changed(self, overrides: Overrides) -> LoadContext:
        """The context of one model whose load call changes settings; the devices stay shared."""
        if overrides == NO_OVERRIDES:
            return self
        given: dict[str, Any] = {
            "max_batch_size": overrides.max_batch_size or None,
            "batching": "off" if overrides.max_batch_size == 0 else None,
            "instances": overrides.instances,
            "max_queue_delay_us": overrides.max_queue_delay_us,
        }
        settings = replace(self.settings, **{key: value for key, value in given.items() if value is not None})
        return replace(self, settings=settings, limits=SchedulingLimits.of(settings))

    def turns(self, manifest: Manifest, threads: int) -> ModelTurns | None:
        """The turns of a model at its device; None where nothing is shared. ``threads``: of one run on the CPU."""
        if device_of(manifest, self.settings) != CPU:
            return self.gpus.join(1)
        return None if self.device is None else self.device.join(threads)

    def cache(self, metrics: ModelMetrics) -> ResponseCache | None:
        """A response cache, connected to the model's metrics; None where caching is off."""
        if not self.limits.cache_bytes:
            return None
        cache = ResponseCache(self.limits.cache_bytes, perf_counter_ns)
        metrics.cache_outcomes, metrics.cache_bytes = cache.outcomes, lambda: cache.bytes
        metrics.cache_miss_ns = lambda: cache.miss_ns
        return cache


@dataclass(frozen=True, slots=True)
class Build:
    """One model that is being built: its artifact, the loop that its answers come back on, and the shared context."""

    artifact: Artifact
    loop: asyncio.AbstractEventLoop
    context: LoadContext


def connect(metrics: ModelMetrics, scheduler: Intake) -> None:
    """Let the metrics of a model read its queue and what it has learnt of costs."""
    metrics.waiting_rows = lambda: scheduler.waiting_rows
    metrics.backlog_ns = scheduler.backlog_ns
    metrics.costs = scheduler.cost_points
