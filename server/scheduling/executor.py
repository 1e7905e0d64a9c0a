"""The executors, which run batches: threads that own an instance each, or the event loop for very cheap models."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Protocol

from ..request import NEVER
from .batch import Batch
from .device import FREE, ModelTurns
from .padding import Padding
from .run import Failures, RunModel, run

log = logging.getLogger("slipway.executor")

Pull = Callable[[Batch | None, int], Batch | None]
Finish = Callable[[Batch, Failures], None]

INLINE_NS = 2_000_000
"""After this time in batches of one model the event loop serves its sockets and the other models again."""


class Executor(Protocol):
    """Runs the batches that it pulls.

    ``pull(finished, limit_ns)`` hands back the batch that has just been run (None: the executor was asleep). It returns
    the next batch, which should take no longer than the limit, or None: then the executor sleeps until it is woken.
    ``finish`` is called on the event loop, once for each batch.
    """

    def wake(self) -> None:
        """Requests wait, and an instance sleeps that was not woken yet."""
        ...

    def stop(self) -> None:
        """End after the batches that are running. Blocks until they have ended."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """The model that an executor runs, the source of its batches, and the callback for those that have run."""

    model: RunModel
    pull: Pull
    finish: Finish
    padding: Padding | None = None


class ThreadExecutor:
    """One thread for each instance. It pulls a batch when it can start one, and sleeps when no request waits.

    Where models share a device, an instance waits for its turn before it pulls. The batch is formed when it comes.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Work,
        instances: int,
        name: str,
        turns: ModelTurns | None = None,
    ) -> None:
        self._loop = loop
        self._work = work
        self._turns = turns
        self._wakes: SimpleQueue[bool] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{index}", daemon=True) for index in range(instances)
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        self._wakes.put(True)

    def stop(self) -> None:
        for _ in self._threads:
            self._wakes.put(False)
        if self._turns is not None:
            self._turns.leave()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        work, turns = self._work, self._turns
        while self._wakes.get():
            turn = FREE if turns is None else turns.wait()
            batch = work.pull(None, turn.limit_ns)
            while batch is not None:
                failures = run(batch, work.model, work.padding)
                try:
                    self._loop.call_soon_threadsafe(work.finish, batch, failures)
                except RuntimeError:
                    log.warning("the event loop is closed; the answers of %d rows are lost", batch.rows)
                if turns is not None:
                    turn = turns.wait(turn, batch.computed_ns - batch.picked_ns)
                batch = work.pull(batch, turn.limit_ns)
            if turns is not None:
                turns.give_back(turn)


class InlineExecutor:
    """Runs batches on the event loop, after it has read all sockets that had data: no thread hop.

    For models that take less time than the hop. Requests that arrive together still share a batch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work) -> None:
        self._loop = loop
        self._work = work

    def wake(self) -> None:
        self._loop.call_soon(self._serve, None)

    def stop(self) -> None:
        """There is nothing to end: woken batches run on the loop."""

    def _serve(self, finished: Batch | None) -> None:
        work = self._work
        begun_ns = perf_counter_ns()
        while (batch := work.pull(finished, NEVER)) is not None:
            work.finish(batch, run(batch, work.model, work.padding))
            finished = batch
            if perf_counter_ns() - begun_ns > INLINE_NS:
                self._loop.call_soon(self._serve, finished)
                return
