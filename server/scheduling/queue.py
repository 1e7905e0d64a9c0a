"""The queue of one model: requests wait, expired ones are evicted, and batches are formed when an instance can start.

This module decides and does nothing else: no IO, no thread, no clock. Every call is given the time, in nanoseconds of
one monotonic clock. A batch is formed at the moment at which an instance can start it, so that late arrivals join it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from ..request import NEVER, InferRequest
from .batch import Batch
from .batch_former import BatchFormer
from .contention import RunningBatches
from .cost import CostTable
from .waiting import Bucket, Seeds, WaitingRequests


class BatchQueue:
    """The waiting requests of one model, which has ``instances`` that can each run one batch at a time."""

    def __init__(
        self,
        max_batch_size: int,
        seeds: Seeds,
        instances: int = 1,
        max_delay_ns: int = 0,
        sizes: Mapping[int, Seeds] | None = None,
        contention: float = 1.0,
        closed: Sequence[int] = (),
    ) -> None:
        """``seeds``: (rows, nanoseconds) of runs with nothing beside them, from which the cost tables begin. ``sizes``:
        the bucket sizes of the padded axis, each with seeds of its own. ``max_delay_ns``: how long a batch that is not
        full is held back for others to join. ``contention``: how many times longer a run takes while all instances
        run, as measured. ``closed``: the only batch sizes that a device runs; empty: all."""
        self._max_batch_size = max_batch_size
        self.max_delay_ns = max_delay_ns
        """As given; it may be changed between two pulls."""
        self.waiting = WaitingRequests(max_batch_size, seeds, sizes or {}, closed)
        self.running = RunningBatches(instances, contention)
        self._former = BatchFormer(self.waiting)
        self._held_ns = 0  # time in which a batch was held back, over the life of the queue
        self._holding_since = 0

    def push(self, request: InferRequest, shape: Hashable, now_ns: int) -> None:
        """Let a request wait. Requests with equal ``shape`` may share a batch, padded to one length or not.

        Requests are ordered by deadline, or by the end of their patience if that is sooner: an urgent request runs
        first, and a request that has waited long enough becomes urgent.
        """
        held_ns = self._held_ns
        if self._holding_since:
            held_ns += now_ns - self._holding_since
        request.held_ns = held_ns
        self.waiting.push(request, shape, now_ns)

    def pull(self, now_ns: int, limit_ns: int = NEVER) -> Batch | None:
        """The batch to start now; None when no request waits, or when it pays to wait until :meth:`wake_ns`.

        ``limit_ns``: the most nanoseconds that the batch should take; a single row may take longer.
        """
        slowdown = 1.0
        if self.running.several:
            self.running.retry_ns = NEVER
            if self.running.waits(now_ns):
                return None
            slowdown = self.running.next_slowdown()
        while (bucket := self.waiting.most_urgent()) is not None:
            if self.waiting.evict_head(bucket, now_ns):
                continue
            if self._holds(bucket, now_ns):
                return None
            candidate = self._former.choose(bucket, limit_ns)
            if slowdown != 1.0 and self.running.delays(candidate, now_ns, slowdown):
                return None
            batch = self._former.form(candidate, now_ns, slowdown, self._held_ns)
            if batch is not None:
                try:
                    self.running.start(batch, now_ns, candidate.target.cost.predict_ns(batch.rows), slowdown)
                except BaseException:
                    self.running.forget(batch)
                    self.waiting.lose(batch.slices)
                    raise
                return batch
        self._end_hold(now_ns)
        return None

    def release(self, batch: Batch) -> None:
        """A batch has run: its instance is idle again, and the cost table learns from it."""
        slowdown = self.running.end(batch)
        bucket = batch.bucket
        if bucket is None:
            return
        if batch.out_of_memory:
            bucket.largest = max(min(bucket.largest, batch.rows // 2), 1)
        elif batch.outputs:
            took_ns = batch.computed_ns - batch.picked_ns
            alone_ns = took_ns if slowdown == 1.0 else int(took_ns / slowdown)
            bucket.cost.record(batch.rows, alone_ns, batch.computed_ns, batch.probe)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.running.count and not self.waiting.rows

    def backlog_ns(self, now_ns: int) -> int:
        """Predicted nanoseconds until a request that arrives now would start."""
        waiting_ns = 0.0
        for bucket in self.waiting.buckets.values():
            if bucket.rows:
                waiting_ns += bucket.rows * bucket.cost.row_ns
        waiting_ns *= self.running.row_share
        return int(waiting_ns) if self.running.idle > 0 else int(waiting_ns) + self.running.free_ns(now_ns)

    def finish_ns(self, rows: int, shape: Hashable, length: int, now_ns: int, wait_ns: int) -> int:
        """When a request that arrives now would finish: after the wait, in the batch in which it would be.

        The wait is multiplied by the spread of the runs. Without that, all requests of a full queue would end at
        their deadline, and half of them just after. The run is not: a request that waits for nothing is always tried,
        and the cost table learns from it.
        """
        bucket = self.waiting.bucket(shape, length)
        cost = bucket.cost
        beside = cost.efficient_rows(bucket.rows + rows)
        run_ns = cost.predict_ns(max(rows, beside)) * self.running.next_slowdown()
        return now_ns + int(wait_ns * cost.spread + run_ns)

    def cost(self, shape: Hashable, length: int = 0) -> CostTable:
        """The cost table of a shape."""
        return self.waiting.bucket(shape, length).cost

    def wake_ns(self) -> int:
        """When a batch that is held back must be looked at again; NEVER when none is held back."""
        if not self._holding_since:
            return self.running.retry_ns
        oldest_ns = self.waiting.oldest_ns()
        return oldest_ns + self.max_delay_ns if oldest_ns != NEVER else NEVER

    def _holds(self, bucket: Bucket, now_ns: int) -> bool:
        """Whether the batch of the most urgent bucket is held back for others to join. Ends a hold that is over."""
        full = not self.max_delay_ns or bucket.rows >= self._max_batch_size
        if not full and now_ns < bucket.heap[0][2] + self.max_delay_ns:
            self._holding_since = self._holding_since or now_ns
            return True
        self._end_hold(now_ns)
        return False

    def _end_hold(self, now_ns: int) -> None:
        if self._holding_since:
            self._held_ns += now_ns - self._holding_since
            self._holding_since = 0
