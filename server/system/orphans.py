"""Orphans: processes whose parents have ended. Process 1 of a container must wait for them; ours end with their parent.

The kernel makes them children of process 1, and they stay in the process table as zombies until it waits for them. A
script that starts programs that start programs would fill the table. Children that this process started itself are
left to subprocess and multiprocessing, which wait for them and need their exit status. The kernel does not tell the two
kinds apart, so a zombie is waited for only when it has been one for longer than any parent here takes to wait.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

PROC = Path("/proc")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOK_S = 30.0
"""A zombie that two looks this far apart have seen is waited for."""
ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = (
    "import os, sys; sys.path.insert(0, sys.argv[1]); "
    "from server.system.orphans import end_with_parent; end_with_parent(int(sys.argv[2]), int(sys.argv[3])); "
    "os.execvp(sys.argv[4], sys.argv[4:])"
)
"""The kernel's promise stays with a process that becomes another program."""


class Zombies:
    """The dead children that the last look found."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._seen: set[int] = set()

    def look(self) -> list[int]:
        """Wait for the zombies that were here before, and return them. Does not block."""
        zombies = self._zombies()
        reaped = sorted(zombies & self._seen)
        for pid in reaped:
            with contextlib.suppress(ChildProcessError):  # subprocess or multiprocessing has waited for it meanwhile
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies - self._seen
        return reaped

    def _zombies(self) -> set[int]:
        """The dead children of this process. One system call tells that there is none."""
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return set()
        except ChildProcessError:
            return set()
        mine, found = str(os.getpid()), set()
        for entry in self._proc.iterdir():
            if not entry.name.isdigit():
                continue
            try:
                # The name, in brackets, may hold anything; what follows it is state and parent.
                state, parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            except (OSError, ValueError):
                continue
            if state == "Z" and parent == mine:
                found.add(int(entry.name))
        return found


def end_with_parent(parent: int | None = None, sent: int = signal.SIGKILL) -> None:
    """Ask the kernel to send this process a signal when the thread that started it ends.

    ``parent``: the id of the process that started it. If that has ended already, this process ends at once. ``sent``:
    the signal. It stays set when the process becomes another program.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, sent, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def ending_with_us(command: Sequence[str], sent: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command line of a process that becomes ``command``, and gets ``sent`` when its parent ends in any way.

    The parent is the thread that starts it: a thread that ends early ends its children too.
    """
    return [sys.executable, "-ISc", BOOTSTRAP, str(ROOT), str(os.getpid()), str(int(sent)), *command]


def adopt() -> None:
    """Start a daemon thread that waits for orphans if this is process 1, which they are given to."""
    if os.getpid() == 1:
        look_after()


def look_after() -> None:
    """Start a daemon thread that waits for orphans as long as this process lives."""
    zombies, never = Zombies(), threading.Event()

    def keep_looking() -> None:
        while not never.wait(LOOK_S):
            zombies.look()

    threading.Thread(target=keep_looking, name="orphans", daemon=True).start()
