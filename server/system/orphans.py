"""The orphans: what process 1 of a container owes to processes whose parents have ended.

They become its children, and stay in the process table as zombies until it waits for them. A handler that starts
programs that start programs would fill the table. Our own children are nobody's orphans: subprocess and multiprocessing
wait for theirs, and would miss an exit status that is taken away from them. The kernel does not tell the two apart, so
a zombie is only waited for when it has been one for longer than a parent that cares would leave it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

PROC = Path("/proc")
LOOK_S = 30.0
"""A zombie that is seen twice, this far apart, is waited for."""


class Orphanage:
    """The zombies that were there at the last look."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._seen: set[int] = set()

    def look(self) -> list[int]:
        """Wait for the zombies that were here before, and return them. Does not block."""
        zombies = self._zombies()
        reaped = sorted(zombies & self._seen)
        for pid in reaped:
            with contextlib.suppress(ChildProcessError):  # its parent has come for it after all
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies - self._seen
        return reaped

    def _zombies(self) -> set[int]:
        """The dead children of this process; where there is none, one system call says so."""
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


def adopt() -> None:
    """Look after orphans for as long as this process lives, if it is the one that they are given to."""
    if os.getpid() == 1:
        look_after()


def look_after() -> None:
    """Wait for children of this process that nobody waits for, as long as it lives."""
    orphanage, never = Orphanage(), threading.Event()

    def keep_looking() -> None:
        while not never.wait(LOOK_S):
            orphanage.look()

    threading.Thread(target=keep_looking, name="orphans", daemon=True).start()
