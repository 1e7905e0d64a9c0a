"""The executors: who runs batches. Threads that own an instance each, or the event loop itself for tiny models."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Protocol

import numpy as np

from ..errors import ModelFailed, OutOfMemory, SlipwayError
from ..request import NEVER
from ..tensors import Array
from .padding import Padding
from .queue import Batch, Slice
from .turns import FreeSeat, Place, Seat

log = logging.getLogger("slipway.executor")

RunModel = Callable[[tuple[Array, ...]], list[Array]]
Failures = list[tuple[Slice, SlipwayError]]
Pull = Callable[[Batch | None, int], Batch | None]
Finish = Callable[[Batch, Failures], None]

INLINE_NS = 2_000_000
"""After this long in batches of one model the event loop looks at its sockets, and at the other models, again."""


class Executor(Protocol):
    """Runs what it pulls.

    ``pull(finished, limit_ns)`` hands back the batch that has just been run (None: the executor was asleep) and answers
    with the next one, which should take no longer than the limit, or with None: sleep until woken. ``finish`` is called
    on the event loop, once for each batch.
    """

    def wake(self) -> None:
        """There is work, and an instance that sleeps and has not been woken yet."""
        ...

    def stop(self) -> None:
        """End after the batches that are running; blocks until they have ended."""
        ...


def run(
    batch: Batch,
    model: RunModel,
    padding: Padding | None = None,
    clock: Callable[[], int] = perf_counter_ns,
    shared: bool = False,
) -> Failures:
    """Run a batch, stamping it. Returns the slices that failed; ``batch`` is left with those that did not.

    A failed batch is halved and each half tried again, so that one poisonous row fails alone. ``shared``: the outputs
    will be put together with others.
    """
    try:
        batch.arrays = assemble(batch, padding)
        batch.assembled_ns = clock()
        batch.outputs = _checked(model(batch.arrays), batch, shared)
    except BaseException as error:  # noqa: BLE001 - whatever a model does, sys.exit too, its batch gets an answer
        failures = _bisect(batch, model, padding, error)
    else:
        failures = []
    batch.computed_ns = clock()
    batch.assembled_ns = batch.assembled_ns or batch.computed_ns
    return failures


def assemble(batch: Batch, padding: Padding | None = None) -> tuple[Array, ...]:
    """The input arrays of a batch. A request that runs alone is not copied."""
    slices = batch.slices
    request, start, stop = slices[0]
    if len(slices) == 1 and batch.length in (0, request.length):
        whole = start == 0 and stop == request.rows
        return request.arrays if whole else tuple(array[start:stop] for array in request.arrays)
    if padding is not None and any(request.length != batch.length for request, _, _ in slices):
        return padding.join(slices, batch.length)
    return tuple(
        np.concatenate([request.arrays[index][start:stop] for request, start, stop in slices])
        for index in range(len(request.arrays))
    )


def _checked(outputs: list[Array], batch: Batch, shared: bool) -> list[Array]:
    """Outputs as they are for a whole request alone; where rows are cut or joined, there must be one for each."""
    request, start, stop = batch.slices[0]
    whole = len(batch.slices) == 1 and stop - start == request.rows
    if (shared or not whole) and any(array.shape[:1] != (batch.rows,) for array in outputs):
        raise ModelFailed("the model returned another number of rows than it was given")
    return outputs


def _bisect(batch: Batch, model: RunModel, padding: Padding | None, error: BaseException) -> Failures:
    slices = batch.slices
    if isinstance(error, OutOfMemory):
        batch.out_of_memory = True
    else:
        batch.bucket = None  # what a failure took teaches nothing about the cost of a run
    if len(slices) == 1:
        batch.slices = []
        if not isinstance(error, SlipwayError):
            log.error("the model failed", exc_info=error)
            error = ModelFailed("the model failed on this input; the server's log has the details")
        elif error.__cause__ is not None:
            log.error("%s: %s", error, error.__cause__)
        return [(slices[0], error)]
    log.warning("a batch of %d rows failed; its halves are tried again: %s", batch.rows, error)
    middle = len(slices) // 2
    halves = []
    failures: Failures = []
    for part in (slices[:middle], slices[middle:]):
        half = Batch(None, part, sum(stop - start for _, start, stop in part), batch.picked_ns, batch.length)
        failures += run(half, model, padding, shared=True)
        halves.append(half)
    batch.slices = [one for half in halves for one in half.slices]
    computed = [half.outputs for half in halves if half.slices]
    batch.outputs = (
        [np.concatenate(parts) for parts in zip(*computed, strict=True)]
        if len(computed) > 1
        else (computed[0] if computed else [])
    )
    return failures


@dataclass(frozen=True, slots=True)
class Work:
    """What an executor runs, and where it gets and brings batches."""

    model: RunModel
    pull: Pull
    finish: Finish
    padding: Padding | None = None


class ThreadExecutor:
    """One thread for each instance: it pulls a batch when it can start one, and sleeps when there is none.

    Where models share a device, an instance asks for its turn before it pulls: a batch is formed when that has come.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Work,
        instances: int,
        name: str,
        place: Place | None = None,
    ) -> None:
        self._loop = loop
        self._work = work
        self._place = place
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
        if self._place is not None:
            self._place.leave()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        work = self._work
        seat: Seat = FreeSeat() if self._place is None else self._place.seat()
        while self._wakes.get():
            batch = work.pull(None, seat.take())
            while batch is not None:
                failures = run(batch, work.model, work.padding)
                try:
                    self._loop.call_soon_threadsafe(work.finish, batch, failures)
                except RuntimeError:
                    log.warning("the event loop is closed; the answers of %d rows are lost", batch.rows)
                batch = work.pull(batch, seat.renew(batch.computed_ns - batch.picked_ns))
            seat.give_back()


class InlineExecutor:
    """Runs batches on the event loop, after it has read what all sockets had for it: no thread hop.

    For models that take less time than the hop. Requests that arrive together still share a batch.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Work) -> None:
        self._loop = loop
        self._work = work

    def wake(self) -> None:
        self._loop.call_soon(self._serve, None)

    def stop(self) -> None:
        """Nothing to end: what has been woken runs on the loop."""

    def _serve(self, finished: Batch | None) -> None:
        work = self._work
        begun_ns = perf_counter_ns()
        while (batch := work.pull(finished, NEVER)) is not None:
            work.finish(batch, run(batch, work.model, work.padding))
            finished = batch
            if perf_counter_ns() - begun_ns > INLINE_NS:
                self._loop.call_soon(self._serve, finished)
                return
