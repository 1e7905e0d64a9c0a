"""The executors, which run batches: threads that own an instance each, or the event loop for very cheap models."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import monotonic, perf_counter_ns
from typing import Protocol

from ..request import NEVER
from .batch import Batch
from .device import FREE, ModelTurns, Turn
from .padding import Padding
from .run import Failures, Join, RunModel, run

log = logging.getLogger("slipway.executor")

Pull = Callable[[Batch | None, int], Batch | None]
Finish = Callable[[Batch, Failures], None]
Lost = Callable[[Batch | None, BaseException], None]

INLINE_NS = 2_000_000
"""After this time in batches of one model the event loop serves its sockets and the other models again."""


class Executor(Protocol):
    """Runs the batches that it pulls. The callbacks that it is given as :class:`Work` raise nothing."""

    def wake(self) -> None:
        """Requests wait, and an instance sleeps that was not woken yet."""
        ...

    def stop(self, patience_s: float | None) -> bool:
        """End after the batches that are running. Blocks until they have ended, or for ``patience_s``. Returns whether
        they have ended."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """The model that an executor runs, the source of its batches, and the callbacks for those that have run.

    ``pull(finished, limit_ns)`` hands back the batch that has just been run (None: the executor was asleep). It returns
    the next batch, which should take no longer than the limit, or None: then the executor sleeps until it is woken.
    ``finish(batch, failures)`` is called on the event loop, once for each batch. ``lost(batch, error)`` is called
    instead when the executor itself failed, with the batch that it had, if any. ``clock`` stamps the runs.
    """

    model: RunModel
    pull: Pull
    finish: Finish
    lost: Lost
    padding: Padding | None = None
    clock: Callable[[], int] = perf_counter_ns
    join: Join | None = None


class ThreadExecutor:
    """One thread for each instance of a model."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Work,
        instances: int,
        name: str,
        turns: ModelTurns | None = None,
    ) -> None:
        """``turns``: the turns of the model on a device that models share; None: the device is not shared."""
        self._turns = turns
        self._wakes: SimpleQueue[bool] = SimpleQueue()
        self._threads = [
            threading.Thread(target=Instance(loop, work, turns, self._wakes).serve, name=f"{name}-{at}", daemon=True)
            for at in range(instances)
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        self._wakes.put(True)

    def stop(self, patience_s: float | None) -> bool:
        for _ in self._threads:
            self._wakes.put(False)
        if self._turns is not None:
            self._turns.leave()
        until_s = None if patience_s is None else monotonic() + patience_s
        for thread in self._threads:
            thread.join(None if until_s is None else max(until_s - monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)


class Instance:
    """One instance of a model: it pulls a batch when it can start one, and sleeps when no request waits.

    Where models share a device, it waits for its turn before it pulls. The batch is formed when the turn comes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Work, turns: ModelTurns | None, wakes: SimpleQueue[bool]
    ) -> None:
        self._loop = loop
        self._work = work
        self._turns = turns
        self._wakes = wakes
        self._batch: Batch | None = None
        self._turn: Turn = FREE

    def serve(self) -> None:
        """The life of the thread. This is its last resort: it loses one batch and goes on."""
        while self._wakes.get():
            try:
                self._work_off()
            except BaseException as error:  # noqa: BLE001 - reported; the instance must live
                self._work.lost(self._batch, error)
            self._batch = None
            if self._turns is not None and self._turn is not FREE:
                self._turns.give_back(self._turn)
                self._turn = FREE

    def _work_off(self) -> None:
        """Run batches until no request waits."""
        work = self._work
        self._wait(0)
        batch = self._batch = work.pull(None, self._turn.limit_ns)
        while batch is not None:
            failures = run(batch, work.model, work.padding, work.clock, join=work.join)
            try:
                self._loop.call_soon_threadsafe(work.finish, batch, failures)
            except RuntimeError:
                log.warning("the event loop is closed; outputs are lost rows=%d", batch.rows)
            self._wait(batch.computed_ns - batch.picked_ns)
            batch = self._batch = work.pull(batch, self._turn.limit_ns)

    def _wait(self, spent_ns: int) -> None:
        """Give the turn back, in which a batch took ``spent_ns``, and wait for the next one."""
        if self._turns is None:
            return
        try:
            self._turn = self._turns.wait(self._turn, spent_ns)
        except Exception:
            log.exception("waiting for a turn on the device failed; the instance goes on without turns")
            self._turns, self._turn = None, FREE


class InlineExecutor:
    """Runs batches on the event loop, after it has read all sockets that had data: no thread hop.

    For models that take less time than the hop. Requests that arrive together still share a batch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work) -> None:
        self._loop = loop
        self._work = work

    def wake(self) -> None:
        self._loop.call_soon(self._serve, None)

    def stop(self, patience_s: float | None) -> bool:  # noqa: ARG002 - nothing to wait for: runs are on the loop
        return True

    def _serve(self, batch: Batch | None) -> None:
        """Run batches until no request waits, or for ``INLINE_NS``; ``batch`` is the last one that has run."""
        work = self._work
        begun_ns = perf_counter_ns()
        try:
            while (batch := work.pull(batch, NEVER)) is not None:
                work.finish(batch, run(batch, work.model, work.padding, work.clock, join=work.join))
                if perf_counter_ns() - begun_ns > INLINE_NS:
                    self._loop.call_soon(self._serve, batch)
                    return
        except Exception as error:  # noqa: BLE001 - reported; the model must live
            work.lost(batch, error)
