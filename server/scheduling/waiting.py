"""The waiting requests of one model: one bucket for each shape, each in deadline order.

This module decides and does nothing else: no IO, no thread, no clock. Every call is given the time, in nanoseconds of
one monotonic clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence

from ..errors import ClientGone, DeadlineExceeded, SlipwayError
from ..request import NEVER, InferRequest
from .contention_estimate import AloneRuns
from .cost import CostTable

SWEEP_NS = 10_000_000
"""Least time between two searches for expired requests."""

KEPT_BUCKETS = 256
"""New shapes until those of which no request waits are forgotten, with their measured costs: at most so many shapes
are kept beside those that wait, and each new shape pays for a small share of the search."""

Seeds = Iterable[tuple[int, float]]
"""(rows, nanoseconds) of runs that were measured before the first request."""


class Bucket:
    """Waiting requests of one shape in deadline order, and the measured cost of a run of that shape.

    ``size`` is the largest length of the padded axis that belongs here; 0 where nothing is padded. ``largest`` is the
    most rows for which the device has memory, as learnt. ``rows`` counts the rows that wait. ``alone``: the runs that
    no other run of the model slowed down. A heap entry is (order, sequence number, arrival in nanoseconds, request).
    """

    __slots__ = ("alone", "cost", "heap", "largest", "rows", "shape", "size")

    def __init__(self, shape: Hashable, size: int, cost: CostTable) -> None:
        self.shape = shape
        self.size = size
        self.cost = cost
        self.alone: AloneRuns = {}
        self.heap: list[tuple[int, int, int, InferRequest]] = []
        self.rows = 0
        self.largest = cost.max_batch_size


class WaitingRequests:
    """All buckets of one model, and the requests that were evicted from them."""

    def __init__(
        self, max_batch_size: int, seeds: Seeds, sizes: Mapping[int, Seeds], closed: Sequence[int] = ()
    ) -> None:
        """``seeds`` begin the cost table of a shape. ``sizes``: the bucket sizes of the padded axis, each with seeds of
        its own; a length beyond the largest gets a bucket for itself. ``closed``: the only batch sizes that run."""
        self._max_batch_size = max_batch_size
        self._seeds = list(seeds)
        self._closed = tuple(closed)
        self._sizes = {size: list(own) for size, own in sorted(sizes.items())}
        self._sequence = 0
        self._fresh = 0  # shapes that are new since the last search for idle ones
        self._evicted: list[InferRequest] = []
        self.buckets: dict[Hashable, Bucket] = {}
        self.bytes = 0
        """Bytes of the arrays of all waiting requests."""

    def push(self, request: InferRequest, shape: Hashable, now_ns: int) -> None:
        """Let a request wait, ordered by its deadline, or by the end of its patience if that is sooner."""
        bucket = self.bucket(shape, request.length)
        request.ahead_rows = bucket.rows if len(self.buckets) == 1 else self.rows
        order = min(request.deadline_ns, now_ns + request.patience_ns)
        self._sequence += 1
        heapq.heappush(bucket.heap, (order, self._sequence, now_ns, request))
        bucket.rows += request.rows
        self.bytes += request.size_bytes

    def bucket(self, shape: Hashable, length: int) -> Bucket:
        """The bucket of a shape and of a length of the padded axis (0: nothing is padded)."""
        size = next((size for size in self._sizes if size >= length), length) if length else 0
        bucket = self.buckets.get((shape, size))
        if bucket is None:
            if self._fresh >= KEPT_BUCKETS:
                self._forget_idle()
            self._fresh += 1
            cost = CostTable(self._max_batch_size, self._sizes.get(size) or self._seeds, self._closed)
            bucket = self.buckets[shape, size] = Bucket(shape, size, cost)
        return bucket

    def _forget_idle(self) -> None:
        """Forget the shapes of which no request waits."""
        self._fresh = 0
        self.buckets = {key: one for key, one in self.buckets.items() if one.heap}

    def most_urgent(self) -> Bucket | None:
        """The bucket whose head runs first; None when no request waits."""
        waiting = [bucket for bucket in self.buckets.values() if bucket.heap]
        if len(waiting) <= 1:
            return waiting[0] if waiting else None
        return min(waiting, key=lambda bucket: bucket.heap[0][:2])

    def evict_head(self, bucket: Bucket, now_ns: int) -> bool:
        """Evict the head of a bucket if it is abandoned or expired, or if it can no longer be computed in time."""
        request = bucket.heap[0][3]
        if request.abandoned:
            error = request.error or ClientGone("the client closed the connection before its answer was ready")
            self.evict(bucket, error)
            return True
        if request.deadline_ns == NEVER:
            return False
        if now_ns >= request.deadline_ns:
            self.evict(bucket, DeadlineExceeded("the deadline passed while the request waited; nothing was computed"))
            return True
        rows = request.rows - request.cursor
        if now_ns + bucket.cost.predict_ns(rows) > request.deadline_ns:
            # What takes time from no other request is tried where there is hope: its run may correct the prediction.
            hope = now_ns + bucket.cost.least_ns(rows) <= request.deadline_ns
            if request.probe or (hope and self.rows == rows):
                return False
            bucket.cost.age(now_ns)
            self.evict(bucket, DeadlineExceeded("the request could no longer be computed before its deadline"))
            return True
        return False

    def evict(self, bucket: Bucket, error: SlipwayError) -> None:
        """Remove the head of a bucket with an error, for :meth:`take_evicted`."""
        request = heapq.heappop(bucket.heap)[3]
        request.error = error
        bucket.rows -= request.rows - request.cursor
        self.bytes -= request.size_bytes
        self._evicted.append(request)

    def evict_most_urgent(self, error: SlipwayError) -> bool:
        """Evict the request that would run next. Returns False when no request waits."""
        bucket = self.most_urgent()
        if bucket is None:
            return False
        self.evict(bucket, error)
        return True

    def lose(self, slices: Iterable[tuple[InferRequest, int, int]]) -> None:
        """Evict requests that were drawn for a batch that could not be started; rows of them may still wait."""
        for request, _, _ in slices:
            request.error = SlipwayError("the server failed to form a batch; its log has the details")
            request.abandoned = True
            self._evicted.append(request)

    def expire(self, now_ns: int) -> int:
        """Evict the heads whose deadline has passed. Returns when to call again; NEVER when no request waits."""
        following = NEVER
        for bucket in self.buckets.values():
            while bucket.heap and bucket.heap[0][3].deadline_ns <= now_ns:
                self.evict_head(bucket, now_ns)
            if bucket.heap:
                following = min(following, max(bucket.heap[0][0], now_ns + SWEEP_NS))
        return following

    def take_evicted(self) -> list[InferRequest]:
        """The requests that were evicted since the last call; each has its ``error``."""
        evicted = self._evicted
        if evicted:
            self._evicted = []
        return evicted

    def clear(self) -> list[InferRequest]:
        """Forget all waiting requests and return them."""
        waiting = [entry[3] for bucket in self.buckets.values() for entry in bucket.heap]
        self.buckets.clear()
        self.bytes = 0
        return waiting

    def oldest_ns(self) -> int:
        """The earliest arrival among the heads; NEVER when no request waits."""
        return min((bucket.heap[0][2] for bucket in self.buckets.values() if bucket.heap), default=NEVER)

    def costs(self) -> list[tuple[int, CostTable]]:
        """(bucket size, cost table): the oldest table of each size; size 0 where nothing is padded."""
        if not self.buckets:
            return [(0, CostTable(self._max_batch_size, self._seeds, self._closed))]
        tables: dict[int, CostTable] = {}
        for bucket in self.buckets.values():
            tables.setdefault(bucket.size, bucket.cost)
        return sorted(tables.items())

    @property
    def rows(self) -> int:
        return sum(bucket.rows for bucket in self.buckets.values())
