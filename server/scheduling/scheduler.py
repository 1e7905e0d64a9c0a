"""The scheduler of one model: admits requests, hands batches to the executor, and ends every request exactly once.

``submit`` and all callbacks run on the event loop; ``_pull`` runs where the executor runs. The queue is shared between
them under a lock that is held for microseconds, so that an instance that has finished takes its next batch at once
instead of waiting for the loop (``docs/decisions/0002-executors-pull-under-a-lock.md``).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Hashable
from time import perf_counter_ns

import numpy as np

from ..errors import ClientGone, DeadlineExceeded, NotReady
from ..ragged import held_bytes
from ..request import NEVER, InferRequest
from .admission import UNLIMITED, Admission
from .batch import Batch
from .device import ModelTurns
from .executor import Executor, InlineExecutor, ThreadExecutor, Work
from .padding import Padding
from .queue import BatchQueue
from .run import Failures, RunModel

log = logging.getLogger("slipway.scheduler")

OnBatch = Callable[[Batch, int], None]
OnEnd = Callable[[InferRequest], None]


class Scheduler:
    """Takes requests and ends each in one call of its ``done``, with outputs or an error."""

    def __init__(
        self,
        queue: BatchQueue,
        model: RunModel,
        loop: asyncio.AbstractEventLoop,
        *,
        instances: int,
        inline: bool,
        max_queue_ns: int,
        max_queue_bytes: int = UNLIMITED,
        objects: bool = False,
        padding: Padding | None = None,
        turns: ModelTurns | None = None,
        on_batch: OnBatch,
        on_end: OnEnd | None = None,
        clock: Callable[[], int] = perf_counter_ns,
        name: str = "model",
    ) -> None:
        """``max_queue_ns`` and ``max_queue_bytes``: the longest predicted wait, and the most bytes of waiting arrays,
        that admission allows. ``objects``: whether there are arrays of objects, which numpy counts as pointers.
        ``turns``: the turns of its threads on a device that models share; None: the device is not shared.
        ``on_batch(batch, failed slices)`` is called for every batch, for the metrics. ``on_end`` is called for every
        request that has ended, instead of its ``done``."""
        self.instances = instances
        self._queue = queue
        self._admission = Admission(queue, max_queue_ns, max_queue_bytes, turns)
        self._loop = loop
        self._lock = threading.Lock()
        self._objects = objects
        self._padding = padding
        self._on_batch = on_batch
        self._on_end = on_end
        self._clock = clock
        self._waking = 0
        self._stopped = False
        self.refusing = False
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._deadline_ns = NEVER
        self._hold_timer: asyncio.TimerHandle | None = None
        work = Work(model, self._pull, self._finish, padding)
        self._executor: Executor = (
            InlineExecutor(loop, work) if inline else ThreadExecutor(loop, work, instances, name, turns)
        )

    def submit(self, request: InferRequest, shape: Hashable = None, admitted: bool = False) -> None:
        """Admit a request. Raises Overloaded, with a computed Retry-After, or NotReady when stopped.

        This is the only place that refuses for load: an admitted request ends in one call of its ``done``.
        ``admitted``: the request was admitted before, to all steps of a pipeline.
        """
        now_ns = self._clock()
        for array in request.arrays:
            request.size_bytes += array.nbytes
        if self._objects:
            request.size_bytes += held_bytes([array for array in request.arrays if array.dtype.kind == "O"])
        with self._lock:
            if self._stopped:
                raise NotReady("the model is being unloaded")
            if not admitted:
                self.refusing = True
                self._admission.admit(request, shape, now_ns)
                self.refusing = False
            self._queue.push(request, shape, now_ns)
            wake = self._queue.running.idle > self._waking
            if wake:
                self._waking += 1
        if wake:
            self._executor.wake()
        if request.deadline_ns < self._deadline_ns:
            self._arm_deadline(request.deadline_ns, now_ns)

    def foresee(self, deadline_ns: int) -> None:
        """Raises Overloaded where the wait alone is too long for every request with this deadline."""
        now_ns = self._clock()
        with self._lock:
            self._admission.foresee(now_ns, deadline_ns)

    def backlog_ns(self) -> int:
        """Predicted wait of a request that arrives now."""
        with self._lock:
            return self._admission.wait_ns(self._clock())

    @property
    def waiting_rows(self) -> int:
        with self._lock:
            return self._queue.waiting.rows

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the arrays of all waiting requests."""
        with self._lock:
            return self._queue.waiting.bytes

    def cost_points(self) -> list[tuple[int, int, int]]:
        """(bucket size, batch size, nanoseconds) as learnt up to now; bucket size 0 where nothing is padded."""
        with self._lock:
            return [(size, *point) for size, cost in self._queue.waiting.costs() for point in cost.points()]

    def stop(self) -> None:
        """Refuse new requests and end the executor after its running batches. Blocks: not for the event loop."""
        self._stopped = True
        self._executor.stop()

    def abandon(self) -> None:
        """After :meth:`stop`, on the event loop: end all waiting requests with NotReady."""
        for timer in (self._deadline_timer, self._hold_timer):
            if timer is not None:
                timer.cancel()
        with self._lock:
            left = self._queue.waiting.clear()
        for request in left:
            request.error = NotReady("the model was unloaded before the request could run")
            self._end(request)

    def _pull(self, finished: Batch | None, limit_ns: int = NEVER) -> Batch | None:
        with self._lock:
            if finished is None:
                self._waking -= 1
            else:
                self._queue.release(finished)
            batch = None if self._stopped else self._queue.pull(self._clock(), limit_ns)
            evicted = self._queue.waiting.take_evicted()
            hold_ns = self._queue.wake_ns() if batch is None else NEVER
            # Rows that were held back for contention may have become more than one batch takes.
            wake = self.instances > 1 and batch is not None and self._more_to_start()
        if evicted:
            self._loop.call_soon_threadsafe(self._end_all, evicted)
        if hold_ns != NEVER:
            self._loop.call_soon_threadsafe(self._arm_hold, hold_ns)
        if wake:
            self._executor.wake()
        return batch

    def _more_to_start(self) -> bool:
        """Whether another instance should be woken, which then counts as waking."""
        more = self._queue.running.idle > self._waking and self._queue.waiting.rows > 0
        self._waking += more
        return more

    def _finish(self, batch: Batch, failures: Failures) -> None:
        """Give every request of a batch its rows."""
        self._on_batch(batch, len(failures))
        self._admission.learn_lag(self._clock() - batch.computed_ns)
        alone = len(batch.slices) == 1
        offset = 0
        for request, start, stop in batch.slices:
            rows = stop - start
            outputs = batch.outputs if alone else [array[offset : offset + rows] for array in batch.outputs]
            offset += rows
            if self._padding is not None and request.length != batch.length:
                outputs = self._padding.cut(outputs, request.length)
            request.assembled_ns = batch.assembled_ns
            request.computed_ns = batch.computed_ns
            request.run_rows = batch.rows
            if rows == request.rows:
                request.outputs = outputs
            elif not self._rejoin(request, start, outputs):
                continue
            request.scattered_ns = self._clock()
            late_ns = request.scattered_ns - request.deadline_ns
            if late_ns > 0 and request.error is None:
                request.error = DeadlineExceeded(f"deadline exceeded: finished {late_ns / 1e6:.1f} ms late")
                request.outputs = None
            self._end(request)
        for (request, _, _), error in failures:
            request.error = error
            request.abandoned = True
            self._end(request)

    def _rejoin(self, request: InferRequest, start: int, outputs: list[np.ndarray]) -> bool:
        """Keep one part of a request that was split; True when it was the last."""
        request.parts = request.parts or []
        request.parts.append((start, outputs))
        if sum(len(part[0]) for _, part in request.parts) < request.rows:
            return False
        ordered = [part for _, part in sorted(request.parts, key=lambda pair: pair[0])]
        request.outputs = [np.concatenate(arrays) for arrays in zip(*ordered, strict=True)]
        return True

    def _end(self, request: InferRequest) -> None:
        if request.ended:
            return
        request.ended = True
        if request.abandoned and request.error is None:
            request.error = ClientGone("the client closed the connection before its answer was ready")
        try:
            if self._on_end is None:
                request.done(request)
            else:
                self._on_end(request)
        except Exception:
            log.exception("completing a request failed; the other requests of its batch go on")

    def _end_all(self, requests: list[InferRequest]) -> None:
        for request in requests:
            self._end(request)

    def _arm_hold(self, wake_ns: int) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()
        self._hold_timer = self._loop.call_later(max(wake_ns - self._clock(), 0) / 1e9, self._release_hold)

    def _release_hold(self) -> None:
        with self._lock:
            wake = self._queue.running.idle > self._waking
            if wake:
                self._waking += 1
        if wake:
            self._executor.wake()

    def _arm_deadline(self, deadline_ns: int, now_ns: int) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._deadline_ns = deadline_ns
        self._deadline_timer = self._loop.call_later(max(deadline_ns - now_ns, 0) / 1e9, self._expire)

    def _expire(self) -> None:
        now_ns = self._clock()
        with self._lock:
            following_ns = self._queue.waiting.expire(now_ns)
            evicted = self._queue.waiting.take_evicted()
        self._deadline_timer = None
        self._deadline_ns = NEVER
        if following_ns != NEVER:
            self._arm_deadline(following_ns, now_ns)
        self._end_all(evicted)
