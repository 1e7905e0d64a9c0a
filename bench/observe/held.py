"""Temporary changes of this machine: a higher priority for processes, or no CPU quota. Undone when a block ends.

    python -m bench.observe.held priority PID...
    python -m bench.observe.held quota PID

makes the change, prints a line, and undoes the change when its standard input ends, also because the process that
started it was killed. ``priority`` raises the scheduling priority of the processes above that of other programs.
``quota`` lifts the CPU quotas of the control groups of a process.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from server.system import cgroup

from ..errors import Unusable
from . import tree

PRIORITY, QUOTA = "priority", "quota"
"""The kinds of change, named as in ``explain.interventions``."""
RAISED_NICENESS = -15
"""The niceness of raised processes: the scheduler prefers them strongly to programs of niceness 0."""
READY = "held"
_REPOSITORY = Path(__file__).resolve().parents[2]
Undo = Callable[[], None]


@contextmanager
def held(kind: str, pids: Sequence[int]) -> Iterator[None]:
    """Make a change for the time of the block. ``kind``: PRIORITY or QUOTA.

    Raises Unusable with the reason if the change is not possible, or this user may not make it.
    """
    command = [sys.executable, "-m", "bench.observe.held", kind, *map(str, pids)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_REPOSITORY,
        start_new_session=True,  # Ctrl-C ends the block, and the block ends this process
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if process.stdout.readline().strip() != READY:
                reason = (process.stderr.read().strip().splitlines() or ["no reason"])[-1]
                raise Unusable(f"the {kind} of the server cannot be changed: {reason}")
            yield
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()


def may_hold(kind: str, pids: Sequence[int], root: Path = cgroup.ROOT) -> bool:
    """Whether this user may make the change. Changes nothing; False without processes."""
    if not pids:
        return False
    if kind == PRIORITY:
        return os.geteuid() == 0
    files = quota_files(pids[0], root)
    return bool(files) and all(os.access(path, os.W_OK) for path in files)


def quota_files(pid: int, root: Path = cgroup.ROOT) -> dict[Path, str]:
    """The files of a process's control groups that set a CPU quota, each with the text that lifts it."""
    texts = {}
    for group in cgroup.of(pid, root).cpu:
        for name, unlimited_text in (("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")):
            with suppress(OSError):
                if not (group / name).read_text(encoding="ascii").startswith(unlimited_text):
                    texts[group / name] = unlimited_text
    return texts


def lift_quotas(pid: int, root: Path = cgroup.ROOT) -> Undo:
    """Lift the CPU quotas of a process, and return a function that restores them.

    Raises OSError without a quota, and without permission; no quota is changed then.
    """
    previous: dict[Path, str] = {}

    def undo() -> None:
        for path, text in previous.items():
            with suppress(OSError):  # the group may have been removed
                path.write_text(text, encoding="ascii")

    files = quota_files(pid, root)
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no control group of the process has a quota")
    try:
        for path, unlimited_text in files.items():
            text = path.read_text(encoding="ascii")
            path.write_text(unlimited_text, encoding="ascii")
            previous[path] = text
    except OSError:
        undo()
        raise
    return undo


def run_ahead(pids: Sequence[int]) -> Undo:
    """Raise the priority of all threads of the processes, and return a function that restores it.

    It also restores threads and processes that started meanwhile, which inherit the priority. Raises PermissionError
    without permission; no priority is changed then.
    """
    previous: dict[int, int] = {}

    def undo() -> None:
        default = next(iter(previous.values()), 0)  # for threads that started meanwhile
        for thread in {*previous, *_threads(tree.with_children(pids))}:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread, previous.get(thread, default))

    try:
        for thread in _threads(pids):
            with suppress(ProcessLookupError):
                nice = os.getpriority(os.PRIO_PROCESS, thread)
                os.setpriority(os.PRIO_PROCESS, thread, RAISED_NICENESS)
                previous[thread] = nice
    except PermissionError:
        undo()
        raise
    return undo


def _threads(pids: Sequence[int]) -> list[int]:
    return [int(path.name) for pid in pids for path in sorted(Path(f"/proc/{pid}/task").glob("*"))]


def main() -> None:
    """The program that ``held`` starts."""
    kind, pids = sys.argv[1], [int(text) for text in sys.argv[2:]]
    try:
        undo = run_ahead(pids) if kind == PRIORITY else lift_quotas(pids[0])
    except OSError as error:
        sys.exit(error.strerror or str(error))
    print(READY, flush=True)
    sys.stdin.read()
    undo()


if __name__ == "__main__":
    main()
