"""The process pool of a script: worker processes that are restarted when they end, and killed when they hang."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from time import monotonic, perf_counter_ns
from typing import Any

from ..errors import BrokenArtifact, DeadlineExceeded, MalformedInput, ModelFailed, NotReady
from .call import Call, ScriptResponse, StatefulSession
from .channel import ChannelBroken
from .chunks import RunnerLost, send_chunks
from .worker_process import END_S, WorkerProcess

log = logging.getLogger("slipway.scripts")

SHORT_LIFE_S = 10.0
"""A worker that ends within this time after its start counts as crashing."""
FIRST_DELAY_S, LONGEST_DELAY_S = 0.1, 10.0
"""Delay before the restart of a worker that crashes repeatedly: doubled each time, up to the longest."""


class ProcessPool:
    """Runs a script in worker processes. One keeper thread for each worker starts it again when it ends.

    ``restarts`` counts starts after the first, ``lost`` killed workers that hung, ``outgrown`` workers that were
    replaced because they held too much memory.
    """

    def __init__(
        self,
        order: dict[str, Any],
        count: int,
        threads: int,
        name: str,
        most_bytes: int = 0,
        load_s: float | None = None,
        gpus: Sequence[str] = (),
    ) -> None:
        """Start ``count`` workers that load ``order``, each with ``threads`` compute threads.

        ``gpus``: for each worker the names of the GPUs that it sees, as :class:`WorkerProcess` takes them. A worker
        that holds more than ``most_bytes`` (0: no limit) is replaced after its run. A worker that does not load within
        ``load_s`` seconds (None: no limit) is killed. Raises BrokenArtifact with the reason if a worker cannot load the
        script.
        """
        self._most_bytes = most_bytes
        self._load_s = load_s
        self.outgrown = 0
        self._order = order
        self._threads = threads
        self._gpus = gpus or [""] * count
        self._name = name
        self._changed = threading.Condition()
        self._idle: list[WorkerProcess] = []  # the longest idle first
        self._first_loads: SimpleQueue[str | int] = SimpleQueue()
        self._up: dict[int, WorkerProcess] = {}
        self._closing = threading.Event()
        self.restarts = 0
        self.lost = 0
        self._keepers = [
            threading.Thread(target=self._keep, args=(slot,), name=f"{name}-keeper-{slot}", daemon=True)
            for slot in range(count)
        ]
        for keeper in self._keepers:
            keeper.start()
        loads = [self._first_loads.get() for _ in self._keepers]
        broken = next((reason for reason in loads if isinstance(reason, str)), None)
        if broken is not None:
            self.close()
            raise BrokenArtifact(broken)
        self.most_calls = int(loads[0])

    @property
    def bytes(self) -> int:
        """Resident memory of all workers in bytes."""
        return sum(worker.bytes for worker in list(self._up.values()))

    def run(self, calls: Sequence[Call], timeout_s: float) -> list[ScriptResponse]:
        """One response for each call; chunks are sent before it returns. All calls have the same session, or none.

        Raises DeadlineExceeded after ``timeout_s`` seconds, NotReady if no worker is idle by then or by the last
        deadline of the calls, ModelFailed if the worker ended during the run, MalformedInput if the worker with the
        session's state has ended, or the error that all calls share.
        """
        until_s = monotonic() + timeout_s
        patience_s = (max(call.deadline_ns for call in calls) - perf_counter_ns()) / 1e9
        take_until_s = min(until_s, monotonic() + patience_s)  # nobody waits for the response after the last deadline
        session = calls[0].session
        while True:
            worker = self._take(take_until_s, session)
            try:
                responses = worker.run(calls, max(until_s - monotonic(), 0.001))
            except TimeoutError:
                raise self._timed_out(worker, calls[0]) from None
            except ChannelBroken as error:
                failure = self._ended(worker)
                if error.unread:
                    continue
                raise failure from error
            except BaseException:
                self._give_back(worker, session)
                raise
            if session is not None and isinstance(session.owner, WorkerStateOwner):
                session.owner.used = True
            if not any(response.chunks for response in responses) or self._send(worker, calls, responses):
                self._give_back(worker, session)
            return responses

    def forget(self, worker: WorkerProcess, session: StatefulSession) -> None:
        """Drop the state of an ended session in its worker. Does not block."""
        with self._changed:
            worker.ended_sessions.append(session.id)
            if worker in self._idle:
                worker.send_ended_sessions()

    def close(self) -> None:
        """End all workers; kill those that do not end in time."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        for worker in list(self._up.values()):
            worker.channel.close()
        for keeper in self._keepers:
            keeper.join(END_S)
        for worker in list(self._up.values()):
            worker.kill()
        for keeper in self._keepers:
            keeper.join(END_S)

    def _send(self, worker: WorkerProcess, calls: Sequence[Call], responses: list[ScriptResponse]) -> bool:
        def take(index: int, timeout_s: float) -> bytes | None:
            try:
                return worker.next_chunk(index, timeout_s)
            except TimeoutError:
                raise RunnerLost(self._timed_out(worker, calls[index])) from None
            except ChannelBroken:
                raise RunnerLost(self._ended(worker)) from None

        def drop(index: int) -> None:
            try:
                worker.channel.send({"drop": index})
            except ChannelBroken:
                raise RunnerLost(self._ended(worker)) from None

        return send_chunks(calls, responses, take, drop)

    def _timed_out(self, worker: WorkerProcess, call: Call) -> DeadlineExceeded:
        self.lost += 1
        log.error("script timed out; its worker is killed request=%s model=%s", call.request_id, self._name)
        worker.kill()
        worker.channel.close()
        return DeadlineExceeded("the script did not respond in time")

    def _ended(self, worker: WorkerProcess) -> ModelFailed:
        worker.kill()
        worker.channel.close()
        return ModelFailed(f"the script's process ended during this request: {worker.reason()}")

    def _give_back(self, worker: WorkerProcess, session: StatefulSession | None) -> None:
        held = worker.bytes if self._most_bytes else 0
        with self._changed:
            if session is not None and session.over:
                worker.ended_sessions.append(session.id)
            if held > self._most_bytes > 0:
                self.outgrown += 1
                log.warning(
                    "worker holds too much memory; it is replaced model=%s memory_mb=%.0f limit_mb=%.0f",
                    *(self._name, held / 1e6, self._most_bytes / 1e6),
                )
                worker.channel.close()  # the worker ends itself when its channel closes
            else:
                worker.send_ended_sessions()
                self._idle.append(worker)
            self._changed.notify_all()

    def _take(self, until_s: float, session: StatefulSession | None) -> WorkerProcess:
        with self._changed:
            while True:
                if self._closing.is_set():
                    raise NotReady("the model is being unloaded")
                for dead in [worker for worker in self._idle if worker.ended.is_set()]:
                    self._idle.remove(dead)
                    dead.channel.close()
                worker = self._choose(session)
                if worker is not None:
                    self._idle.remove(worker)
                    return worker
                if not self._changed.wait(max(until_s - monotonic(), 0)):
                    raise self._no_worker(session)

    def _choose(self, session: StatefulSession | None) -> WorkerProcess | None:
        """An idle worker that can run the session's calls, None if there is none yet.

        Raises MalformedInput if the worker with the session's state has ended.
        """
        idle = self._idle[0] if self._idle else None
        if session is None:
            return idle
        owner = session.owner
        ours = owner if isinstance(owner, WorkerStateOwner) and owner.pool is self else None
        if owner is None or (ours is not None and ours.worker.ended.is_set() and not ours.used):
            session.owner = None if idle is None else WorkerStateOwner(self, idle)  # no state exists yet
            return idle
        if ours is None or ours.worker.ended.is_set():
            raise MalformedInput("the process that held this session's state has ended; open a new session")
        return ours.worker if ours.worker in self._idle else None

    def _no_worker(self, session: StatefulSession | None) -> NotReady:
        if session is not None and session.owner is not None:
            return NotReady("the process that holds this session's state is busy with other requests; retry")
        return NotReady("no process of the script is idle; retry")

    def _keep(self, slot: int) -> None:
        """The keeper thread of a worker: start it, wait for its end, start it again."""
        delay_s, reported, crashes = 0.0, False, 0
        while not self._closing.wait(delay_s):
            begun_s = monotonic()
            served, reason = self._serve(slot, reported)
            if not reported and not served:
                self._first_loads.put(reason)
                return
            reported = True
            if self._closing.is_set():
                return
            self.restarts += 1
            crashes = crashes + 1 if monotonic() - begun_s < SHORT_LIFE_S else 0
            delay_s = min(2 * delay_s or FIRST_DELAY_S, LONGEST_DELAY_S) if crashes > 1 else 0.0
            log.error("worker ended; it is restarted model=%s reason=%s delay_s=%.1f", self._name, reason, delay_s)

    def _serve(self, slot: int, reported: bool) -> tuple[bool, str]:
        """One life of a worker. Returns whether it loaded the script, and the reason of its end."""
        try:
            worker = WorkerProcess(self._threads, self._gpus[slot])
        except OSError as error:
            return False, f"no process can be started: {error.strerror}"
        self._up[slot] = worker
        try:
            worker.channel.send(self._order)
            loaded, _ = worker.channel.receive(self._load_s)
        except ChannelBroken:
            worker.wait()
            return False, f"the script's process ended while it loaded: {worker.reason()}"
        except OSError as error:
            worker.kill()
            worker.wait()
            if isinstance(error, TimeoutError):
                return False, f"the script did not load within {self._load_s:g} s (--load-timeout-s)"
            return False, "the model is being unloaded"
        if "broken" in loaded:
            worker.wait()
            worker.channel.close()
            return False, str(loaded["broken"])
        if not reported:
            self._first_loads.put(int(loaded["most_calls"]))
        with self._changed:
            self._idle.append(worker)
            self._changed.notify_all()
        worker.wait()
        with self._changed:
            self._changed.notify_all()
        return True, worker.reason()


class WorkerStateOwner:
    """The worker that holds a session's state. ``used`` is True after the session's first run there."""

    __slots__ = ("pool", "used", "worker")

    def __init__(self, pool: ProcessPool, worker: WorkerProcess) -> None:
        self.pool = pool
        self.worker = worker
        self.used = False

    def forget(self, session: StatefulSession) -> None:
        self.pool.forget(self.worker, session)
