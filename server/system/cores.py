"""Cores: how many this process may use, by its scheduler affinity and the CPU quota of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

from . import cgroup


def available_cores(root: Path = cgroup.ROOT, *, processes: int = 1) -> int:
    """Whole cores for thread pools, at least 1: the smaller of the affinity and the quota, shared by ``processes``.

    A fraction is rounded down. A pool that is one thread too wide is throttled for the rest of every period, which
    costs more than the fraction would have given. ``root`` is where ``proc`` and ``sys`` are mounted.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup.of(root=root).quota_cores()
    cores = allowed if quota is None else min(allowed, int(quota))
    return max(cores // processes, 1)
