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
from typing import Any

from ..errors import DeadlineExceeded, NotReady, Overloaded, SlipwayError
from ..ragged import held_bytes
from ..request import NEVER, InferRequest
from .admission import UNLIMITED, Admission, LoopLag
from .alarm import Alarm
from .batch import Batch
from .completion import Completion, OnBatch, OnEnd
from .device import ModelTurns
from .executor import Executor, InlineExecutor, ThreadExecutor, Work
from .padding import Padding
from .queue import BatchQueue
from .run import Join, RunModel
from .waiting import SWEEP_NS
from .watchdog import Watchdog

log = logging.getLogger("slipway.scheduler")

NO_BATCH = "the server failed to form a batch; its log has the details"


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
        join: Join | None = None,
        turns: ModelTurns | None = None,
        on_batch: OnBatch,
        on_end: OnEnd | None = None,
        on_device_lost: Callable[[str], None] | None = None,
        stall_ns: int = NEVER,
        clock: Callable[[], int] = perf_counter_ns,
        name: str = "model",
    ) -> None:
        """``max_queue_ns`` and ``max_queue_bytes``: the longest predicted wait, and the most bytes of waiting arrays,
        that admission allows. ``objects``: whether there are arrays of objects, which numpy counts as pointers.
        ``join``: joins the arrays of several requests where the model reads them; None: they are joined in host memory.
        ``turns``: the turns of its threads on a device that models share; None: the device is not shared.
        ``on_batch(batch, failed slices)`` is called for every batch, for the metrics. ``on_end`` is called for every
        request that has ended, instead of its ``done``. ``on_device_lost`` is called with the reason for each request
        that a lost GPU has failed. ``stall_ns``: the limit of the :class:`Watchdog`."""
        self.instances = instances
        self._queue = queue
        lag = LoopLag()
        self._admission = Admission(queue, lag, max_queue_ns, max_queue_bytes, turns)
        self._loop = loop
        self._lock = threading.Lock()
        self._objects = objects
        self._completion = Completion(
            padding=padding,
            lag=lag,
            on_batch=on_batch,
            on_end=on_end,
            on_device_lost=on_device_lost,
            clock=clock,
            name=name,
        )
        self._clock = clock
        self._name = name
        self._watchdog = Watchdog(stall_ns)
        self._pulls = 0
        self.stalled = ""
        self._failed: SlipwayError | None = None
        self._waking = 0
        self._stopped = False
        self.refusing = False
        self._deadline = Alarm(loop, clock, self._expire)
        self._hold = Alarm(loop, clock, self._release_hold)
        work = Work(model, self._pull, self._completion.finish, self._lost, padding, clock, join)
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
            if request.object_bytes < 0:
                request.object_bytes = held_bytes([array for array in request.arrays if array.dtype.kind == "O"])
            request.size_bytes += request.object_bytes
        wake = False
        with self._lock:
            if self._stopped:
                raise NotReady("the model is being unloaded")
            if self._failed is not None:
                raise self._failed
            if self.stalled:
                raise NotReady(f"the model makes no progress: {self.stalled}")
            if not admitted:
                try:
                    self._admission.admit(request, shape, now_ns)
                except Overloaded:
                    self.refusing = True
                    raise
                self.refusing = False
            try:
                self._queue.push(request, shape, now_ns)
            except BaseException:
                request.refuse()
                raise
            if self._queue.running.idle > self._waking:
                self._waking += 1
                wake = True
        try:
            if wake:
                self._executor.wake()
            if request.deadline_ns < self._deadline.at_ns:
                self._deadline.set(request.deadline_ns)
        except BaseException:
            request.refuse()
            self._recount(wake)
            raise

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
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        with self._lock:
            return self._queue.idle

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

    def stop(self, patience_s: float | None = None) -> bool:
        """Refuse new requests and wait for the running batches, for ``patience_s`` at most (None: for ever). Returns
        whether they have ended. Blocks: not for the event loop."""
        self._stopped = True
        return self._executor.stop(patience_s)

    def abandon(self) -> None:
        """After :meth:`stop`, on the event loop: end all requests that are left with NotReady."""
        self._deadline.clear()
        self._hold.clear()
        self._end_held(NotReady("the model was unloaded before the request could run"))

    def fail(self, error: SlipwayError) -> None:
        """End all requests that wait or run with an error, which new ones get from now on. On the event loop."""
        self._failed = error
        self._end_held(error)

    def check(self) -> None:
        """Look for lost progress: called about once a second, on the event loop.

        A model that makes no progress is ``stalled``: it refuses requests, and those that it holds end with NotReady. A
        run that returns later makes it ready again. An instance that sleeps while requests wait is woken.
        """
        now_ns = self._clock()
        with self._lock:
            queue = self._queue
            rows, overdue_ns = queue.waiting.rows, queue.running.overdue_ns(now_ns)
            reason = self._watchdog.check(now_ns, rows, self._pulls, overdue_ns)
            wake = queue.wake_ns() == NEVER and self._more_to_start()
            changed = bool(reason) != bool(self.stalled)
            self.stalled = reason
        if wake:
            self._wake()
        if changed and reason:
            log.error("a model makes no progress model=%s reason=%r", self._name, reason)
            self._end_held(NotReady(f"the model makes no progress: {reason}"))
        elif changed:
            log.info("a model makes progress again model=%s", self._name)

    def _end_held(self, error: SlipwayError) -> None:
        """End all requests that wait or run. A run that returns later finds them ended."""
        with self._lock:
            running = self._queue.running.requests()
            waiting = self._queue.waiting.clear()
        self._completion.fail_all([*running, *waiting], error)

    def _pull(self, finished: Batch | None, limit_ns: int = NEVER) -> Batch | None:
        """Hand a finished batch back and get the next one. Runs where the executor runs. Raises nothing.

        If a batch cannot be formed, the most urgent request gets an error, and the others go on.
        """
        queue = self._queue
        with self._lock:
            self._pulls += 1
            if finished is None:
                self._waking -= 1
            else:
                try:
                    queue.release(finished)
                except Exception:
                    log.exception("learning from a run failed model=%s", self._name)
                    queue.running.forget(finished)
            batch = None
            while not self._stopped:
                try:
                    batch = queue.pull(self._clock(), limit_ns)
                    break
                except Exception:
                    log.exception("forming a batch failed model=%s", self._name)
                    if not queue.waiting.evict_most_urgent(SlipwayError(NO_BATCH)):
                        break
            try:
                evicted = queue.waiting.take_evicted()
                hold_ns = queue.wake_ns() if batch is None else NEVER
                # Rows that were held back for contention may have become more than one batch takes.
                wake = self.instances > 1 and batch is not None and self._more_to_start()
            except Exception:
                log.exception("ending evicted requests failed; the next batch tries again model=%s", self._name)
                return batch
        if evicted:
            self._post(self._completion.end_all, evicted)
        if hold_ns != NEVER:
            self._post(self._hold.set, hold_ns)
        if wake:
            self._wake()
        return batch

    def _lost(self, batch: Batch | None, error: BaseException) -> None:
        """The executor failed outside a run: its batch is over, and an instance is free again. Raises nothing."""
        log.critical("an executor failed; it goes on model=%s", self._name, exc_info=error)
        with self._lock:
            if batch is not None:
                self._queue.running.forget(batch)
            wake = self._more_to_start()
        if batch is not None:
            self._post(self._completion.lose, batch.slices, error)
        if wake:
            self._wake()

    def _wake(self) -> None:
        """Wake an instance that counts as waking. Raises nothing."""
        try:
            self._executor.wake()
        except Exception:
            log.exception("waking an instance failed model=%s", self._name)
            self._recount(True)

    def _recount(self, was_waking: bool) -> None:
        """An instance that counted as waking was not woken."""
        with self._lock:
            self._waking -= was_waking

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        """Have the event loop call something, from any thread."""
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            log.warning("the event loop is closed; requests are lost model=%s", self._name)

    def _more_to_start(self) -> bool:
        """Whether another instance should be woken, which then counts as waking."""
        more = self._queue.running.idle > self._waking and self._queue.waiting.rows > 0
        self._waking += more
        return more

    def _release_hold(self) -> None:
        with self._lock:
            wake = self._more_to_start()
        if wake:
            self._wake()

    def _expire(self) -> None:
        """End the requests whose deadline has passed: those that wait are not run, those that run are not awaited."""
        now_ns = self._clock()
        with self._lock:
            following_ns = self._queue.waiting.expire(now_ns)
            evicted = self._queue.waiting.take_evicted()
            running = self._queue.running.requests()
        late = []
        for request in running:
            if request.deadline_ns <= now_ns:
                late.append(request)
            else:
                following_ns = min(following_ns, max(request.deadline_ns, now_ns + SWEEP_NS))
        if following_ns != NEVER:
            self._deadline.set(following_ns)
        self._completion.end_all(evicted)
        self._completion.fail_all(late, DeadlineExceeded("the deadline passed while the request was computed"))
