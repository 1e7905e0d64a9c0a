"""The workers: processes in which a script runs, started again when they end, killed when they hang."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from ..errors import BrokenArtifact, DeadlineExceeded, ModelFailed, NotReady
from .call import Answer, Call
from .channel import Broken, Channel, answers_in, calls_out

log = logging.getLogger("slipway.handlers")

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, sys
os.environ.setdefault("OMP_NUM_THREADS", sys.argv[3])
sys.path.insert(0, sys.argv[2])
from server.handlers.worker import main
sys.exit(main(int(sys.argv[1])))
"""
"""The numeric libraries of a script read their number of threads when they are imported, from the environment only."""

SHORT_LIFE_S = 10.0
"""A worker that ended sooner than this after its start is started again with a growing delay,"""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 10.0
"""from the second time on, doubled each time up to the longest."""
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

    def answer(self, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """Raises TimeoutError, Broken, or what several calls ended in together."""
        self.channel.send(*calls_out(calls))
        answers = answers_in(self.channel.receive(timeout_s))
        if len(answers) != len(calls):
            raise Broken("the worker answered another number of calls")
        return answers

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


class Workers:
    """The session of a script in processes of its own. Each is kept by a thread that starts it again.

    ``restarts`` counts starts after the first, ``lost`` the workers that were killed because they hung.
    """

    def __init__(self, order: dict[str, Any], count: int, threads: int, name: str) -> None:
        """Start ``count`` of them. Raises BrokenArtifact when one cannot load the script, with its reason."""
        self._order = order
        self._threads = threads
        self._name = name
        self._ready: SimpleQueue[Worker | None] = SimpleQueue()
        self._first: SimpleQueue[str | int] = SimpleQueue()
        self._up: dict[int, Worker] = {}
        self._closing = threading.Event()
        self.restarts = 0
        self.lost = 0
        self._keepers = [
            threading.Thread(target=self._keep, args=(slot,), name=f"{name}-keeper-{slot}", daemon=True)
            for slot in range(count)
        ]
        for keeper in self._keepers:
            keeper.start()
        firsts = [self._first.get() for _ in self._keepers]
        broken = next((one for one in firsts if isinstance(one, str)), None)
        if broken is not None:
            self.close()
            raise BrokenArtifact(broken)
        self.most_calls = int(firsts[0])

    @property
    def bytes(self) -> int:
        """The memory of all workers."""
        return sum(worker.bytes for worker in list(self._up.values()))

    def answer(self, calls: Sequence[Call], timeout_s: float) -> list[Answer]:
        """Raises DeadlineExceeded, NotReady while none is up, ModelFailed when the worker died of it, or what the
        calls ended in together."""
        until_s = monotonic() + timeout_s
        while True:
            worker = self._take(until_s)
            try:
                answers = worker.answer(calls, max(until_s - monotonic(), 0.001))
            except TimeoutError:
                self.lost += 1
                log.error("request %s: the script did not answer in time; its worker is killed", calls[0].request_id)
                worker.kill()
                worker.channel.close()
                raise DeadlineExceeded("the script did not answer in time") from None
            except Broken as error:
                worker.kill()
                worker.channel.close()
                if error.unread:
                    continue
                raise ModelFailed(f"the script's process ended during this request: {worker.reason()}") from error
            except BaseException:
                self._ready.put(worker)
                raise
            self._ready.put(worker)
            return answers

    def close(self) -> None:
        """End all workers, those that do not end by themselves with force."""
        self._closing.set()
        for worker in list(self._up.values()):
            worker.channel.close()
        for keeper in self._keepers:
            keeper.join(END_S)
        for worker in list(self._up.values()):
            worker.kill()
        for keeper in self._keepers:
            keeper.join(END_S)

    def _take(self, until_s: float) -> Worker:
        while True:
            try:
                worker = self._ready.get(timeout=max(until_s - monotonic(), 0))
            except Empty:
                raise NotReady("no process of the script is up: they are being started again") from None
            if worker is None:
                raise NotReady("the model is being unloaded")
            if not worker.ended.is_set():
                return worker
            worker.channel.close()

    def _keep(self, slot: int) -> None:
        """Start, hand over, wait for the end, and again."""
        delay_s, told, deaths = 0.0, False, 0
        while not self._closing.wait(delay_s):
            begun_s = monotonic()
            began, reason = self._serve(slot, told)
            if not told and not began:
                self._first.put(reason)
                return
            told = True
            if self._closing.is_set():
                return
            self.restarts += 1
            deaths = deaths + 1 if monotonic() - begun_s < SHORT_LIFE_S else 0
            delay_s = min(2 * delay_s or FIRST_DELAY_S, LONGEST_DELAY_S) if deaths > 1 else 0.0
            log.error("a worker of model %s is gone (%s); it is started again", self._name, reason)

    def _serve(self, slot: int, told: bool) -> tuple[bool, str]:
        """One life of a worker. Returns whether it came to serve, and why it ended."""
        try:
            worker = Worker(self._threads)
        except OSError as error:
            return False, f"no process can be started: {error.strerror}"
        self._up[slot] = worker
        try:
            worker.channel.send(self._order)
            answer, _ = worker.channel.receive()
        except Broken:
            worker.wait()
            return False, f"the script's process ended while it loaded: {worker.reason()}"
        except OSError:
            worker.kill()
            worker.wait()
            return False, "the model is being unloaded"
        if "broken" in answer:
            worker.wait()
            worker.channel.close()
            return False, str(answer["broken"])
        if not told:
            self._first.put(int(answer["most_calls"]))
        self._ready.put(worker)
        worker.wait()
        return True, worker.reason()
