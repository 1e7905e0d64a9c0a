"""Control groups: the CPU quota, the memory limit and the usage that the kernel keeps for one process.

Layouts that are read, all below ``/sys/fs/cgroup``: version 2 at the mount itself, version 1 with one hierarchy per
controller, and both at once (hybrid: version 2 below ``unified``). A limit of a group binds every group below it, so
the group of the process and all groups above it are read. See ``cgroups(7)`` and the kernel's ``cgroup-v2.rst``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/")
MOUNT = "sys/fs/cgroup"
UNIFIED = (".", "unified")
"""Where version 2 may be mounted, below ``MOUNT``."""
CPU, MEMORY = "cpu", "memory"
HIERARCHIES = {CPU: ("cpu", "cpu,cpuacct", "cpuacct,cpu"), MEMORY: ("memory",)}
"""Where the hierarchy of a version 1 controller may be mounted, below ``MOUNT``."""
TOP = PurePosixPath()
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes "no limit" as a number of bytes that no machine has."""


@dataclass(frozen=True, slots=True)
class Throttling:
    """Counters of one group since it was made: its periods, the periods in which it was stopped, and for how long.

    ``throttled_ns``: summed over the cores on which it had work, so that it grows faster than time. ``period_ns``: the
    length of a period; None if unknown.
    """

    periods: int
    throttled_periods: int
    throttled_ns: int
    period_ns: int | None = None


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """The groups that bind one process, as directories, by controller: its own group first, then each group above it.

    Every call reads the kernel's files again, because limits change while a process runs. A file that is missing or
    cannot be parsed sets no limit.
    """

    cpu: tuple[Path, ...]
    memory: tuple[Path, ...]

    def quota_cores(self) -> float | None:
        """The smallest CPU quota of all groups, in cores; None where no group has one."""
        return min((cores for cores, _ in self._quotas()), default=None)

    def memory_limit_bytes(self) -> int | None:
        """The smallest memory limit of all groups; None where no group has one."""
        return min((limit for limit, _ in self._limits()), default=None)

    def memory_used_bytes(self) -> int | None:
        """What the group with the smallest limit uses, else what the process's own group uses; None if unknown.

        Usage and limit are of the same group: a neighbour in that group takes from the same limit.
        """
        for group in _tightest_first(self._limits(), self.memory):
            used = _number(group / "memory.current", group / "memory.usage_in_bytes")
            if used is not None:
                return used
        return None

    def throttling(self) -> Throttling | None:
        """The counters of the group with the smallest quota, else those of the process's own group; None if unknown.

        A group counts only the stops that its own quota caused.
        """
        for group in _tightest_first(self._quotas(), self.cpu):
            found = dict(line.split(None, 1) for line in _read(group / "cpu.stat").splitlines() if " " in line)
            try:
                # Version 2 counts microseconds, version 1 nanoseconds.
                stopped_ns = int(
                    found["throttled_time"] if "throttled_time" in found else found["throttled_usec"] + "000"
                )
                return Throttling(int(found["nr_periods"]), int(found["nr_throttled"]), stopped_ns, _period_ns(group))
            except (KeyError, ValueError):
                continue
        return None

    def _quotas(self) -> Iterator[tuple[float, Path]]:
        for group in self.cpu:
            quota, _, period = _read(group / "cpu.max").partition(" ")
            cores = _cores(quota, period)
            if cores is None:
                cores = _cores(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))
            if cores is not None:
                yield cores, group

    def _limits(self) -> Iterator[tuple[int, Path]]:
        for group in self.memory:
            limit = _number(group / "memory.max", group / "memory.limit_in_bytes")
            if limit is not None and limit < UNLIMITED_BYTES:
                yield limit, group


def of(pid: int | None = None, root: Path = ROOT) -> ControlGroups:
    """The groups of a process of this machine; None: of this process. ``root``: where ``proc`` and ``sys`` are mounted.

    The top of a mount always counts. Inside a container it is often the container's own group, while ``/proc`` names
    the path on the host, or ``/`` in a namespace of its own. Without ``/proc/self/cgroup`` this process is taken to be
    in the top groups; another process without that file has no known group.
    """
    text = _read(root / "proc" / ("self" if pid is None else str(pid)) / "cgroup")
    paths = dict.fromkeys(("", CPU, MEMORY), TOP) if not text and pid is None else _paths(text)
    mount = root / MOUNT
    return ControlGroups(*(tuple(_directories(mount, paths, controller)) for controller in (CPU, MEMORY)))


def _paths(text: str) -> dict[str, PurePosixPath]:
    """``/proc/PID/cgroup``: the path of the group by controller, version 2 under the empty name.

    A path with ``..`` leaves the namespace of this process. Its group has no directory here, so it is left out.
    """
    found: dict[str, PurePosixPath] = {}
    for line in text.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        pure = PurePosixPath(path.lstrip("/"))
        if ".." not in pure.parts:
            found.update(dict.fromkeys(controllers.split(","), pure))
    return found


def _directories(mount: Path, paths: dict[str, PurePosixPath], controller: str) -> Iterator[Path]:
    """Existing directories of version 1, then of version 2, each from the process's group up to the top."""
    for name, places in ((controller, HIERARCHIES[controller]), ("", UNIFIED)):
        for place in places if name in paths else ():
            for group in (paths[name], *paths[name].parents):
                directory = mount / place / group
                if directory.is_dir():
                    yield directory


def _tightest_first(limits: Iterable[tuple[float, Path]], groups: Iterable[Path]) -> list[Path]:
    tightest = min(limits, default=None)
    return [*([] if tightest is None else [tightest[1]]), *groups]


def _period_ns(group: Path) -> int | None:
    period_us = _read(group / "cpu.max").partition(" ")[2] or _read(group / "cpu.cfs_period_us")
    return int(period_us) * 1_000 if period_us.isdigit() else None


def _cores(quota_us: str, period_us: str) -> float | None:
    """A quota in cores. None for "max" (version 2), -1 (version 1) and what is no number."""
    try:
        quota, period = int(quota_us), int(period_us)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _number(*files: Path) -> int | None:
    """The number in the first file that holds one."""
    return next((int(text) for text in map(_read, files) if text.isdigit()), None)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
