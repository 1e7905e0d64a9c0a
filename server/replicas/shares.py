"""Shares: what one of several processes may use of what the settings give to the server.

Memory is shared, that of a GPU among the processes that use it. Limits of one request, times, and connections, whose
number the kernel does not spread evenly, are those of each process. Cores are shared where they are counted
(``system.cores``).
"""

from __future__ import annotations

import dataclasses

from ..settings.options import Settings
from ..system import cgroup
from ..system.gpu_shares import OwnGpus
from ..system.memory import HEADROOM


def share_of(settings: Settings, gpus: OwnGpus) -> Settings:
    """The settings of one of ``settings.processes`` processes, which has these GPUs."""
    count = settings.processes
    budget_mb = settings.memory_budget_mb
    if not budget_mb:
        limit = cgroup.of().memory_limit_bytes()
        budget_mb = 0.0 if limit is None else HEADROOM * limit / 1e6
    return dataclasses.replace(
        settings,
        memory_budget_mb=budget_mb / count,
        max_receive_mb=settings.max_receive_mb / count,
        max_queue_mb=settings.max_queue_mb / count,
        cache_mb=settings.cache_mb / count,
        gpus=len(gpus.names) or settings.gpus,
        gpu_memory_mb=gpus.memory_mb(settings.gpu_memory_mb),
    )
