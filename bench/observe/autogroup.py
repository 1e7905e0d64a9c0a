"""Autogroups: the kernel shares cores among sessions first, so that niceness counts within a session only.

See "The autogroup feature" in sched(7).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from server.system import cgroup

ENABLED = "proc/sys/kernel/sched_autogroup_enabled"
WEIGHTS = ("cpu.shares", "cpu.weight")
ATTEMPTS, WAIT_S = 20, 0.1
"""The kernel takes one change in 0.1 s from users without CAP_SYS_ADMIN, of all users together."""
Wait = Callable[[float], None]
Files = dict[str, list[Path]]
"""The files of the processes of each autogroup, by its name. A write to one of them changes the group."""


def of(pids: Sequence[int], root: Path = cgroup.ROOT) -> Files:
    """The autogroups of some processes; empty where the kernel makes none."""
    found: Files = {}
    with suppress(OSError):
        if (root / ENABLED).read_text(encoding="ascii").strip() != "1":
            return {}
        for pid in pids:
            path = root / "proc" / str(pid) / "autogroup"
            with suppress(OSError, ValueError):  # the process has ended
                name, _ = read(path)
                found.setdefault(name, []).append(path)
    return found


def read(path: Path) -> tuple[str, int]:
    """The name and the niceness of the autogroup of a process. Raises OSError, and ValueError for another text."""
    name, _, nice = path.read_text(encoding="ascii").strip().partition(" nice ")
    return name, int(nice)


def set_niceness(name: str, files: Sequence[Path], niceness: int, wait: Wait = time.sleep) -> int | None:
    """Set the niceness of an autogroup, and return the previous one; None if all its processes have left it.

    Raises OSError if the kernel refuses.
    """
    for path in files:
        with suppress(FileNotFoundError, ProcessLookupError):
            now, previous = read(path)
            if now == name:
                _write(path, niceness, wait)
                return previous
    return None


def _write(path: Path, niceness: int, wait: Wait) -> None:
    for attempt in range(ATTEMPTS):
        try:
            path.write_text(str(niceness), encoding="ascii")
            return
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt + 1 == ATTEMPTS:
                raise
        wait(WAIT_S)


def can_run_ahead(pid: int, root: Path = cgroup.ROOT) -> bool:
    """Whether a process can be raised above all other programs: its autogroup can, and no control group limits that.

    Inside a control group with a weight of its own, niceness counts against the other processes of that group alone.
    The top of a mount is the whole machine, or the container in which all processes are.
    """
    mount = root / cgroup.MOUNT
    tops = {mount / place for place in (*cgroup.UNIFIED, *cgroup.HIERARCHIES[cgroup.CPU])}
    groups = [group for group in cgroup.of(pid, root).cpu if group not in tops]
    files = [path for paths in of([pid], root).values() for path in paths]
    is_weighted = any((group / name).exists() for group in groups for name in WEIGHTS)
    return not is_weighted and all(os.access(path, os.W_OK) for path in files)
