"""Held: a change of the machine around a server that is on this machine, put back when its block ends.

    python -m bench.observe.held priority PID...
    python -m bench.observe.held quota PID

changes, prints a line, and puts everything back when its standard input ends: also if the process that started it is
killed. ``priority`` lets the processes run ahead of other programs, ``quota`` takes away the CPU quotas of their
control groups.
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
"""As ``explain.interventions`` names them."""
AHEAD = -15
"""Niceness: other programs get a core only when the server leaves it."""
READY = "held"
_REPOSITORY = Path(__file__).resolve().parents[2]
PutBack = Callable[[], None]


@contextmanager
def held(what: str, pids: Sequence[int]) -> Iterator[None]:
    """Hold a change while the block runs. Raises Unusable, with the reason, if this user may not make it."""
    command = [sys.executable, "-m", "bench.observe.held", what, *map(str, pids)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=_REPOSITORY,
        start_new_session=True,  # Ctrl-C ends the block, which ends this
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            if process.stdout.readline().strip() != READY:
                why = (process.stderr.read().strip().splitlines() or ["no reason"])[-1]
                raise Unusable(f"the {what} of the server cannot be changed: {why}")
            yield
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()


def may_hold(what: str, pids: Sequence[int], root: Path = cgroup.ROOT) -> bool:
    """Whether this user may make the change. Nothing is changed."""
    if not pids:
        return False
    if what == PRIORITY:
        return os.geteuid() == 0
    files = quota_files(pids[0], root)
    return bool(files) and all(os.access(path, os.W_OK) for path in files)


def quota_files(pid: int, root: Path = cgroup.ROOT) -> dict[Path, str]:
    """The files with the CPU quotas of a process's groups, each with the text that lifts the quota."""
    found = {}
    for group in cgroup.of(pid, root).cpu:
        for name, free in (("cpu.max", "max"), ("cpu.cfs_quota_us", "-1")):
            with suppress(OSError):
                if not (group / name).read_text(encoding="ascii").startswith(free):
                    found[group / name] = free
    return found


def lift_quotas(pid: int, root: Path = cgroup.ROOT) -> PutBack:
    """Take the quotas away. Raises OSError where there is none, or that is not allowed; what was changed before is
    put back."""
    before: dict[Path, str] = {}

    def put_back() -> None:
        for path, text in before.items():
            with suppress(OSError):  # the group may have ended
                path.write_text(text, encoding="ascii")

    files = quota_files(pid, root)
    if not files:
        raise FileNotFoundError(errno.ENOENT, "no control group of it has a quota")
    try:
        for path, free in files.items():
            text = path.read_text(encoding="ascii")
            path.write_text(free, encoding="ascii")
            before[path] = text
    except OSError:
        put_back()
        raise
    return put_back


def run_ahead(pids: Sequence[int]) -> PutBack:
    """Raise the priority of all threads. Raises PermissionError where that is not allowed; nothing is changed then."""
    before: dict[int, int] = {}

    def put_back() -> None:
        usual = next(iter(before.values()), 0)  # of a thread or a process that was started meanwhile
        for thread in {*before, *_threads(tree.with_children(pids))}:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, thread, before.get(thread, usual))

    try:
        for thread in _threads(pids):
            with suppress(ProcessLookupError):
                nice = os.getpriority(os.PRIO_PROCESS, thread)
                os.setpriority(os.PRIO_PROCESS, thread, AHEAD)
                before[thread] = nice
    except PermissionError:
        put_back()
        raise
    return put_back


def _threads(pids: Sequence[int]) -> list[int]:
    return [int(path.name) for pid in pids for path in sorted(Path(f"/proc/{pid}/task").glob("*"))]


def main() -> None:
    """The program that ``held`` starts."""
    what, pids = sys.argv[1], [int(one) for one in sys.argv[2:]]
    try:
        put_back = run_ahead(pids) if what == PRIORITY else lift_quotas(pids[0])
    except OSError as error:
        sys.exit(error.strerror or str(error))
    print(READY, flush=True)
    sys.stdin.read()
    put_back()


if __name__ == "__main__":
    main()
