"""The environment of a result: machine, system, versions of libraries, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from server.system import cgroup, cpu

_REPOSITORY = Path(__file__).resolve().parents[2]
_PACKAGES = ("uvloop", "httptools", "numpy", "locust")


@dataclass(frozen=True, slots=True)
class Environment:
    """The generator's machine.

    ``cores``: cores that this process may run on. ``quota_cores``: the CPU quota of its control groups, None without
    one. ``load_1m``: mean length of the run queue in the minute before the run, other programs included. ``commit``:
    the commit of this checkout, None outside a repository.
    """

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
    """The environment of this process. Needs no privileges."""
    return Environment(
        cpu=cpu.processor()[0],
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1,
        quota_cores=cgroup.of().quota_cores(),
        memory_bytes=psutil.virtual_memory().total,
        load_1m=round(psutil.getloadavg()[0], 2),
        system=platform.platform(),
        python=platform.python_version(),
        versions=_versions(),
        commit=_commit(),
    )


def _versions() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """The commit of this checkout, followed by ``+`` if files differ from it; None outside a repository."""
    try:
        command = ["git", "-C", str(_REPOSITORY), "describe", "--always", "--abbrev=12", "--dirty=+"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return done.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
