"""The queue: which requests wait for a model, and which of them should run together next.

It decides and does nothing else: no IO, no thread, no clock (every call is told what time it is, in nanoseconds of one
monotonic clock). A batch is formed at the moment at which an instance can start it, never earlier, so that late
arrivals still join it.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable

from ..errors import ClientGone, DeadlineExceeded
from ..request import NEVER, InferRequest
from ..tensors import Array
from .cost import CostTable

PATIENCE_NS = 10_000_000_000
"""A request without a deadline is ordered as if it had this much time, so that hurried ones cannot starve it."""

SWEEP_NS = 10_000_000
"""Least time between two looks for expired requests."""

KEPT_BUCKETS = 256
"""Shapes whose measured costs are remembered while nothing waits for them."""

Slice = tuple[InferRequest, int, int]


class Batch:
    """Rows that run together: slices (request, first row, end row), of one shape bucket."""

    __slots__ = ("arrays", "assembled_ns", "bucket", "computed_ns", "outputs", "picked_ns", "rows", "slices")

    def __init__(self, bucket: Bucket | None, slices: list[Slice], rows: int, picked_ns: int) -> None:
        self.bucket = bucket
        self.slices = slices
        self.rows = rows
        self.picked_ns = picked_ns
        self.arrays: tuple[Array, ...] = ()
        self.outputs: list[Array] = []
        self.assembled_ns = 0
        self.computed_ns = 0


class Bucket:
    """Waiting requests of one shape, in the order in which they should run, and what running that shape costs."""

    __slots__ = ("cost", "heap", "rows")

    def __init__(self, cost: CostTable) -> None:
        self.cost = cost
        self.heap: list[tuple[int, int, int, InferRequest]] = []
        self.rows = 0


class BatchQueue:
    """The waiting requests of one model, which has ``instances`` that can each run one batch at a time."""

    def __init__(
        self, max_batch_size: int, seeds: Iterable[tuple[int, float]], instances: int = 1, max_delay_ns: int = 0
    ) -> None:
        self._max_batch_size = max_batch_size
        self._seeds = list(seeds)
        self._instances = instances
        self._max_delay_ns = max_delay_ns
        self._buckets: dict[Hashable, Bucket] = {}
        self._running: dict[Batch, int] = {}
        self._sequence = 0
        self._held_ns = 0
        self._holding_since = 0
        self._dead: list[InferRequest] = []

    def push(self, request: InferRequest, shape: Hashable, now_ns: int) -> None:
        """Let a request wait. ``shape`` tells which requests may share a run with it."""
        bucket = self._bucket(shape)
        order = min(request.deadline_ns, now_ns + PATIENCE_NS)
        self._sequence += 1
        request.held_ns = self._held_until(now_ns)
        heapq.heappush(bucket.heap, (order, self._sequence, now_ns, request))
        bucket.rows += request.rows

    def pull(self, now_ns: int) -> Batch | None:
        """The batch to start now, or None: nothing waits, or company is worth waiting for until :meth:`wake_ns`."""
        while True:
            bucket = self._most_urgent()
            if bucket is None:
                self._end_hold(now_ns)
                return None
            if self._bury(bucket, now_ns):
                continue
            if self._holds(bucket, now_ns):
                self._holding_since = self._holding_since or now_ns
                return None
            self._end_hold(now_ns)
            batch = self._form(bucket, self._size(bucket, now_ns), now_ns)
            if batch is not None:
                self._running[batch] = now_ns + bucket.cost.predict_ns(batch.rows)
                return batch

    def release(self, batch: Batch) -> None:
        """A batch has run: its instance is idle again, and the cost table learns from it."""
        del self._running[batch]
        if batch.bucket is not None and batch.outputs:
            batch.bucket.cost.record(batch.rows, batch.computed_ns - batch.picked_ns)

    def backlog_ns(self, now_ns: int) -> int:
        """Predicted time until a request that arrived now would start."""
        waiting_ns = 0.0
        for bucket in self._buckets.values():
            if bucket.rows:
                waiting_ns += bucket.rows * bucket.cost.row_ns
        waiting_ns /= self._instances
        if len(self._running) >= self._instances:
            waiting_ns += max(min(self._running.values()) - now_ns, 0)
        return int(waiting_ns)

    def cost(self, shape: Hashable) -> CostTable:
        """The cost table of a shape."""
        return self._bucket(shape).cost

    def wake_ns(self) -> int:
        """When a batch that is held back must start; NEVER when none is held."""
        if not self._holding_since:
            return NEVER
        oldest = [bucket.heap[0][2] for bucket in self._buckets.values() if bucket.heap]
        return min(oldest) + self._max_delay_ns if oldest else NEVER

    def expire(self, now_ns: int) -> int:
        """Bury the heads whose deadline has passed; returns when to look again (NEVER: nothing waits)."""
        following = NEVER
        for bucket in self._buckets.values():
            while bucket.heap and bucket.heap[0][3].deadline_ns <= now_ns:
                self._bury(bucket, now_ns)
            if bucket.heap:
                following = min(following, max(bucket.heap[0][0], now_ns + SWEEP_NS))
        return following

    def take_dead(self) -> list[InferRequest]:
        """The requests that will not be run, with their ``error`` set, since this was last asked."""
        dead = self._dead
        if dead:
            self._dead = []
        return dead

    def clear(self) -> list[InferRequest]:
        """Forget everything that waits, and return it."""
        waiting = [entry[3] for bucket in self._buckets.values() for entry in bucket.heap]
        self._buckets.clear()
        return waiting

    @property
    def waiting_rows(self) -> int:
        return sum(bucket.rows for bucket in self._buckets.values())

    @property
    def idle_instances(self) -> int:
        return self._instances - len(self._running)

    def _bucket(self, shape: Hashable) -> Bucket:
        bucket = self._buckets.get(shape)
        if bucket is None:
            if len(self._buckets) >= KEPT_BUCKETS:
                self._buckets = {key: one for key, one in self._buckets.items() if one.heap}
            bucket = self._buckets[shape] = Bucket(CostTable(self._max_batch_size, self._seeds))
        return bucket

    def _most_urgent(self) -> Bucket | None:
        waiting = [bucket for bucket in self._buckets.values() if bucket.heap]
        if len(waiting) <= 1:
            return waiting[0] if waiting else None
        return min(waiting, key=lambda bucket: bucket.heap[0][:2])

    def _bury(self, bucket: Bucket, now_ns: int) -> bool:
        """Take the head away if it is abandoned, expired, or cannot be computed in time any more."""
        request = bucket.heap[0][3]
        rest = request.rows - request.cursor
        if request.abandoned:
            request.error = request.error or ClientGone("the client closed the connection before its answer was ready")
        elif now_ns >= request.deadline_ns:
            request.error = DeadlineExceeded("the deadline passed while the request waited; nothing was computed")
        elif request.deadline_ns != NEVER and now_ns + bucket.cost.predict_ns(rest) > request.deadline_ns:
            request.error = DeadlineExceeded("the request could not be computed before its deadline any more")
        else:
            return False
        heapq.heappop(bucket.heap)
        bucket.rows -= rest
        self._dead.append(request)
        return True

    def _size(self, bucket: Bucket, now_ns: int) -> int:
        """The most efficient batch size that still meets the deadline of the head, which is the earliest."""
        size = bucket.cost.efficient_rows(bucket.rows)
        deadline_ns = bucket.heap[0][3].deadline_ns
        while size > 1 and now_ns + bucket.cost.predict_ns(size) > deadline_ns:
            size -= (size + 7) // 8
        return size

    def _form(self, bucket: Bucket, size: int, now_ns: int) -> Batch | None:
        slices: list[Slice] = []
        room = size
        while room and bucket.heap:
            request = bucket.heap[0][3]
            if (request.abandoned or request.deadline_ns != NEVER) and self._bury(bucket, now_ns):
                continue
            start = request.cursor
            stop = min(request.rows, start + room)
            if stop == request.rows:
                heapq.heappop(bucket.heap)
            if start == 0:
                request.picked_ns = now_ns
                request.held_ns = self._held_ns - request.held_ns
            request.cursor = stop
            slices.append((request, start, stop))
            room -= stop - start
        rows = size - room
        bucket.rows -= rows
        return Batch(bucket, slices, rows, now_ns) if rows else None

    def _holds(self, bucket: Bucket, now_ns: int) -> bool:
        if not self._max_delay_ns:
            return False
        full = bucket.rows >= self._max_batch_size
        return not full and now_ns < bucket.heap[0][2] + self._max_delay_ns

    def _held_until(self, now_ns: int) -> int:
        return self._held_ns + (now_ns - self._holding_since if self._holding_since else 0)

    def _end_hold(self, now_ns: int) -> None:
        if self._holding_since:
            self._held_ns += now_ns - self._holding_since
            self._holding_since = 0
