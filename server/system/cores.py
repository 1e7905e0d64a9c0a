"""How many cores this process may really use: what the scheduler allows, cut down by the container's quota."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def available_cores(root: Path = ROOT) -> int:
    """Whole cores for thread pools, at least 1.

    The scheduler affinity of this process, and no more than the CPU quota of its control group or of any group above
    it, version 2 (``cpu.max``) or 1 (``cpu.cfs_quota_us``). A fraction is rounded down: a pool that is one thread too
    wide gets throttled for the rest of every period, which costs more than the fraction would have given.
    ``root`` is where ``proc`` and ``sys`` are mounted.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(root), default=float(allowed))
    return max(1, min(allowed, int(quota)))


def _quotas(root: Path) -> Iterator[float]:
    """Every quota that applies, in cores. What cannot be read does not limit."""
    mount = root / "sys/fs/cgroup"
    unified, version_1 = _own_groups(root)
    for group in unified:
        words = _read(mount / group / "cpu.max").split()
        if len(words) == 2:
            yield from _cores(*words)
    for group in version_1:
        for controller in ("cpu", "cpu,cpuacct"):
            directory = mount / controller / group
            yield from _cores(_read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us"))


def _own_groups(root: Path) -> tuple[list[str], list[str]]:
    """Directories below the mount that limit this process, for versions 2 and 1: its own group and all above it.

    Inside a container the mount often shows the container's group as its top while ``/proc`` still names the host's
    path; the top itself is therefore always among them.
    """
    unified, version_1 = ["."], ["."]
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        pure = PurePosixPath(path.lstrip("/"))
        groups = [group.as_posix() for group in (pure, *pure.parents) if ".." not in group.parts]
        if not controllers:
            unified.extend(groups)
        elif "cpu" in controllers.split(","):
            version_1.extend(groups)
    return unified, version_1


def _cores(quota_us: str, period_us: str) -> Iterator[float]:
    """One quota, unless there is none: ``max`` in version 2, -1 in version 1, an empty text where no file is."""
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:
        return
    if quota > 0 and period > 0:
        yield quota / period


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
