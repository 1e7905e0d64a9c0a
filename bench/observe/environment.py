"""The environment: what a result depends on besides the server, and what a reader needs to judge it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

_REPOSITORY = Path(__file__).resolve().parents[2]
_PACKAGES = ("uvloop", "httptools", "numpy", "locust")


@dataclass(frozen=True, slots=True)
class Environment:
    """The generator's machine. ``cores`` are those that this process may run on; ``quota_cores`` is the container's
    limit (None: none); ``load_1m`` is the run queue's average before the run, other programs included."""

    cpu: str
    cores: int
    quota_cores: float | None
    memory_bytes: int
    load_1m: float
    system: str
    python: str
    versions: dict[str, str]
    commit: str | None


def describe() -> Environment:
    """What can be found out without privileges; what cannot is None or ``unknown``."""
    return Environment(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1,
        quota_cores=_quota_cores(Path("/sys/fs/cgroup/cpu.max")),
        memory_bytes=psutil.virtual_memory().total,
        load_1m=round(psutil.getloadavg()[0], 2),
        system=platform.platform(),
        python=platform.python_version(),
        versions=_versions(),
        commit=_commit(),
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def _quota_cores(path: Path) -> float | None:
    """cgroup v2: ``max 100000`` or ``150000 100000`` (microseconds per period)."""
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    """The commit of this checkout, with ``+`` when files differ from it."""
    try:
        command = ["git", "-C", str(_REPOSITORY), "describe", "--always", "--abbrev=12", "--dirty=+"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
