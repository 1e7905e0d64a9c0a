"""Temporary changes of this machine: a higher priority for processes, or no CPU quota. Undone when a block ends.

    python -m bench.observe.held priority PID... [--alone]
    python -m bench.observe.held quota PID

makes the change, prints a line, and undoes the change when its standard input ends, also because the process that
started it was killed. ``priority`` raises the scheduling priority of the processes above that of other programs, and
that of their sessions where the kernel shares cores among sessions (``--alone``: not of a session that other programs
are in). ``quota`` lifts the CPU quotas of the control groups of a process.
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
from . import autogroup, tree

PRIORITY, QUOTA = "priority", "quota"
"""The kinds of change, named as in ``explain.interventions``."""
RAISED_NICENESS = -15
"""The niceness of raised processes: the scheduler prefers them strongly to programs of niceness 0."""
CAP_SYS_NICE = 23
"""The bit of the capability that a process needs to raise a priority, as in capability.h."""
ALONE = "--alone"
READY = "held"
_REPOSITORY = Path(__file__).resolve().parents[2]
Undo = Callable[[], None]


@contextmanager
def held(kind: str, pids: Sequence[int], alone: bool = False) -> Iterator[None]:
    """Make a change for the time of the block. ``kind``: PRIORITY or QUOTA. ``alone``: raise no other program, too.

    Raises Unusable with the reason if the change is not possible, or this user may not make it.
    """
    command = [sys.executable, "-m", "bench.observe.held", kind, *map(str, pids), *([ALONE] if alone else [])]
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
        return _may_raise(root) and all(autogroup.can_run_ahead(pid, root) for pid in pids)
    files = quota_files(pids[0], root)
    return bool(files) and all(os.access(path, os.W_OK) for path in files)


def _may_raise(root: Path) -> bool:
    try:
        lines = (root / "proc/self/status").read_text(encoding="utf-8").splitlines()
        effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
        return bool(int(effective, 16) >> CAP_SYS_NICE & 1)
    except (OSError, StopIteration, LookupError, ValueError):
        return False


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


def run_ahead(pids: Sequence[int], alone: bool = False, root: Path = cgroup.ROOT) -> Undo:
    """Raise the priority of the processes and of their autogroups, and return a function that restores it.

    It also restores threads and processes that started meanwhile, which inherit the priority. ``alone``: leave an
    autogroup as it is if other programs are in it. Raises OSError without permission; no priority is changed then.
    """
    previous: dict[int, int] = {}
    sessions: dict[str, int] = {}

    def undo() -> None:
        files = autogroup.of([*pids, *tree.with_children(pids)], root)
        for name, niceness in sessions.items():
            with suppress(OSError):
                autogroup.set_niceness(name, files.get(name, ()), niceness)
        default = next(iter(previous.values()), 0)  # for threads that started meanwhile
        for thread in {*previous, *_threads(tree.with_children(pids))}:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread, previous.get(thread, default))

    try:
        for name, files in autogroup.of(pids, root).items():
            if alone and name in autogroup.of(_others(pids, root), root):
                continue
            niceness = autogroup.set_niceness(name, files, RAISED_NICENESS)
            if niceness is not None:
                sessions[name] = niceness
        for thread in _threads(pids):
            with suppress(ProcessLookupError):
                nice = os.getpriority(os.PRIO_PROCESS, thread)
                os.setpriority(os.PRIO_PROCESS, thread, RAISED_NICENESS)
                previous[thread] = nice
    except OSError:
        undo()
        raise
    return undo


def _others(pids: Sequence[int], root: Path) -> list[int]:
    """All processes but these, their descendants, and their ancestors, which wait for them."""
    own = {*tree.with_children(pids), *tree.ancestors(pids)}
    return [int(path.name) for path in (root / "proc").glob("[0-9]*") if int(path.name) not in own]


def _threads(pids: Sequence[int]) -> list[int]:
    return [int(path.name) for pid in pids for path in sorted(Path(f"/proc/{pid}/task").glob("*"))]


def main() -> None:
    """The program that ``held`` starts."""
    kind, pids = sys.argv[1], [int(text) for text in sys.argv[2:] if text != ALONE]
    try:
        undo = run_ahead(pids, ALONE in sys.argv) if kind == PRIORITY else lift_quotas(pids[0])
    except OSError as error:
        sys.exit(error.strerror or str(error))
    print(READY, flush=True)
    sys.stdin.read()
    undo()


if __name__ == "__main__":
    main()
