"""The workers: processes in which a script runs, started again when they end, killed when they hang."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from time import monotonic
from typing import Any

from ..errors import BrokenArtifact, DeadlineExceeded, MalformedInput, ModelFailed, NotReady
from .call import Answer, Call, Session
from .channel import Broken
from .pieces import Lost, send
from .process import END_S, Worker

log = logging.getLogger("slipway.handlers")

SHORT_LIFE_S = 10.0
"""A worker that ended sooner than this after its start is started again with a growing delay,"""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 10.0
"""from the second time on, doubled each time up to the longest."""


class Workers:
    """The session of a script in processes of its own. Each is kept by a thread that starts it again.

    ``restarts`` counts starts after the first, ``lost`` the workers that were killed because they hung, ``outgrown``
    those that were replaced because they had become too large.
    """

    def __init__(self, order: dict[str, Any], count: int, threads: int, name: str, most_bytes: int = 0) -> None:
        """Start ``count`` of them. One that holds more than ``most_bytes`` (0: no limit) is replaced after its run.

        Raises BrokenArtifact when one cannot load the script, with its reason."""
        self._most_bytes = most_bytes
        self.outgrown = 0
        self._order = order
        self._threads = threads
        self._name = name
        self._free = threading.Condition()
        self._ready: list[Worker] = []  # who has been free for longest first
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
        """Raises DeadlineExceeded, NotReady while none is up, ModelFailed when the worker died of it, MalformedInput
        when the one that held their session's state is gone, or what the calls ended in together.

        All calls of a run are of one session, or of none. What an answer has in pieces is sent from here.
        """
        until_s = monotonic() + timeout_s
        session = calls[0].session
        while True:
            worker = self._take(until_s, session)
            try:
                answers = worker.answer(calls, max(until_s - monotonic(), 0.001))
            except TimeoutError:
                raise self._hung(worker, calls[0]) from None
            except Broken as error:
                failure = self._ended(worker)
                if error.unread:
                    continue
                raise failure from error
            except BaseException:
                self._give_back(worker, session)
                raise
            if session is not None and isinstance(session.home, _Home):
                session.home.used = True
            if not any(answer.pieces for answer in answers) or self._send(worker, calls, answers):
                self._give_back(worker, session)
            return answers

    def forget(self, worker: Worker, session: Session) -> None:
        """A session whose state a worker holds has ended. Does not block."""
        with self._free:
            worker.forgotten.append(session.id)
            if worker in self._ready:
                worker.tell_forgotten()

    def close(self) -> None:
        """End all workers, those that do not end by themselves with force."""
        self._closing.set()
        with self._free:
            self._free.notify_all()
        for worker in list(self._up.values()):
            worker.channel.close()
        for keeper in self._keepers:
            keeper.join(END_S)
        for worker in list(self._up.values()):
            worker.kill()
        for keeper in self._keepers:
            keeper.join(END_S)

    def _send(self, worker: Worker, calls: Sequence[Call], answers: list[Answer]) -> bool:
        def take(index: int, timeout_s: float) -> bytes | None:
            try:
                return worker.next_piece(index, timeout_s)
            except TimeoutError:
                raise Lost(self._hung(worker, calls[index])) from None
            except Broken:
                raise Lost(self._ended(worker)) from None

        def drop(index: int) -> None:
            try:
                worker.channel.send({"drop": index})
            except Broken:
                raise Lost(self._ended(worker)) from None

        return send(calls, answers, take, drop)

    def _hung(self, worker: Worker, call: Call) -> DeadlineExceeded:
        self.lost += 1
        log.error("request %s: the script did not answer in time; its worker is killed", call.request_id)
        worker.kill()
        worker.channel.close()
        return DeadlineExceeded("the script did not answer in time")

    def _ended(self, worker: Worker) -> ModelFailed:
        worker.kill()
        worker.channel.close()
        return ModelFailed(f"the script's process ended during this request: {worker.reason()}")

    def _give_back(self, worker: Worker, session: Session | None) -> None:
        held = worker.bytes if self._most_bytes else 0
        with self._free:
            if session is not None and session.over:
                worker.forgotten.append(session.id)
            if held > self._most_bytes > 0:
                self.outgrown += 1
                most_mb = self._most_bytes / 1e6
                log.warning("a worker of model %s holds %.0f MB, over %.0f: replaced", self._name, held / 1e6, most_mb)
                worker.channel.close()  # by which it ends, in its own time
            else:
                worker.tell_forgotten()
                self._ready.append(worker)
            self._free.notify_all()

    def _take(self, until_s: float, session: Session | None) -> Worker:
        with self._free:
            while True:
                if self._closing.is_set():
                    raise NotReady("the model is being unloaded")
                for dead in [worker for worker in self._ready if worker.ended.is_set()]:
                    self._ready.remove(dead)
                    dead.channel.close()
                worker = self._choose(session)
                if worker is not None:
                    self._ready.remove(worker)
                    return worker
                if not self._free.wait(max(until_s - monotonic(), 0)):
                    raise self._too_late(session)

    def _choose(self, session: Session | None) -> Worker | None:
        """Who is free for it; None: nobody yet. Raises MalformedInput when its state is gone."""
        free = self._ready[0] if self._ready else None
        if session is None:
            return free
        home = session.home
        if isinstance(home, _Home) and home.workers is self and home.worker.ended.is_set() and not home.used:
            home = None  # nothing of the session has ever come there
        if home is None:
            if free is not None:
                session.home = _Home(self, free)
            return free
        if not isinstance(home, _Home) or home.workers is not self or home.worker.ended.is_set():
            raise MalformedInput("the process that held this session's state has ended: open a new session")
        return home.worker if home.worker in self._ready else None

    def _too_late(self, session: Session | None) -> NotReady:
        if session is not None and session.home is not None:
            return NotReady("the process that holds this session's state is busy with other requests")
        return NotReady("no process of the script is up: they are being started again")

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
        with self._free:
            self._ready.append(worker)
            self._free.notify_all()
        worker.wait()
        with self._free:
            self._free.notify_all()
        return True, worker.reason()


class _Home:
    """Where the state of a session is. ``used``: whether anything of it has been there yet."""

    __slots__ = ("used", "worker", "workers")

    def __init__(self, workers: Workers, worker: Worker) -> None:
        self.workers = workers
        self.worker = worker
        self.used = False

    def forget(self, session: Session) -> None:
        self.workers.forget(self.worker, session)
