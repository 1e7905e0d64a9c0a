"""A worker process as the server sees it: started, asked, killed, waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from .call import Answer, Call
from .channel import Broken, Channel, answers_in, calls_out, error_in

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys
os.environ.setdefault("OMP_NUM_THREADS", sys.argv[3])
sys.path.insert(0, sys.argv[2])
from server.scripts.worker import main
sys.exit(main(int(sys.argv[1])))
"""
"""The numeric libraries of a script read their number of threads when they are imported, from the environment only."""

END_S = 2.0
"""How long a worker may take to end by itself."""


class Worker:
    """One process and the server's end of its channel."""

    def __init__(self, threads: int) -> None:
        """Start it; raises OSError when there can be no more processes."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-c", PROGRAM, str(theirs.fileno()), str(ROOT), str(threads)]
            try:
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0
                )
            except BaseException:
                ours.close()
                raise
        self.channel = Channel(ours)
        self._over = False
        self.ended = threading.Event()
        self.begun_s = monotonic()
        self.forgotten: list[str] = []  # sessions that it is to forget, told when it is free

    def answer(self, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """Raises TimeoutError, Broken, or what several calls ended in together."""
        self.channel.send(*calls_out(calls))
        answers = answers_in(self.channel.receive(timeout_s))
        if len(answers) != len(calls):
            raise Broken("the worker answered another number of calls")
        return answers

    def next_piece(self, index: int, timeout_s: float) -> bytes | None:
        """Of an answer to the last calls. Raises TimeoutError, Broken, or what the script ended in."""
        self.channel.send({"next": index})
        said, blobs = self.channel.receive(timeout_s)
        if "raised" in said:
            raise error_in(said["raised"])
        return blobs[0] if said["more"] else None

    def tell_forgotten(self) -> None:
        """Which sessions have ended; only while nobody uses the channel. One that is dead forgets anyway."""
        if self.forgotten:
            with contextlib.suppress(Broken):
                self.channel.send({"forget": self.forgotten})
            self.forgotten = []

    def kill(self) -> None:
        """At once, with whatever it has started."""
        if not self._over:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Until it has ended; what it left behind in its group ends too. Returns the exit code."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)  # not reaped yet: its number is still its own
        self.kill()
        self._over = True
        code = self.process.wait()
        self.ended.set()
        return code

    def reason(self) -> str:
        """How it ended, once it has; for a message."""
        self.ended.wait(END_S)
        code = self.process.returncode
        if code is None:
            return "it does not answer"
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    @property
    def bytes(self) -> int:
        """Its resident memory as the kernel counts it, shared libraries included."""
        try:
            text = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii")
            return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0
