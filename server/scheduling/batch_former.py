"""Batch forming: which waiting rows run together, in which shape, and how many of them.

This module decides and does nothing else: no IO, no thread, no clock. Every call is given the time, in nanoseconds.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

from ..errors import DeadlineExceeded
from ..request import NEVER
from .batch import Batch, Slice
from .cost import CostTable
from .waiting import Bucket, WaitingRequests

PADDING_PAYS = 1.03
"""Padding is chosen when its worth is this many times that of the most urgent shape alone."""


@dataclass(slots=True)
class BatchCandidate:
    """A batch that could be formed now: ``rows`` rows in the shape of ``target``, drawn from ``members`` in order.

    ``worth`` is the time that these rows would take in their own shapes at their best batch sizes, over the time that
    this run takes. Without padding it is 1 at most.
    """

    target: Bucket
    members: list[Bucket]
    rows: int
    worth: float


class BatchFormer:
    """Forms batches from the waiting requests of one model."""

    def __init__(self, waiting: WaitingRequests) -> None:
        self._waiting = waiting

    def choose(self, urgent: Bucket, limit_ns: int) -> BatchCandidate:
        """The best candidate for the most urgent bucket: in its own shape, or padded together with other lengths.

        It takes no longer than ``limit_ns`` nanoseconds, unless a single row does.
        """
        best = _candidate(urgent, [urgent])
        if urgent.size:
            best = self._padded(urgent, best)
        if limit_ns != NEVER:
            best.rows = _fitting(best.target.cost, best.rows, limit_ns)
        return best

    def form(self, candidate: BatchCandidate, now_ns: int, slowdown: float, held_ns: int) -> Batch | None:
        """Move the rows of a candidate into a batch; None when all its requests were evicted instead.

        ``slowdown``: how many times longer the run takes beside those that run now. ``held_ns``: how long the queue has
        held batches back for others to join, over its whole life.
        """
        target = candidate.target
        size = self._rows_in_time(candidate, now_ns, slowdown)
        slices: list[Slice] = []
        room = size
        try:
            for bucket in candidate.members:
                room -= self._draw(bucket, room, now_ns, held_ns, slices)
            if not slices:
                return None
            length = max([request.length for request, _, _ in slices]) if target.size else 0
            return Batch(target, slices, size - room, now_ns, length)
        except BaseException:
            self._waiting.lose(slices)
            raise

    def _padded(self, urgent: Bucket, best: BatchCandidate) -> BatchCandidate:
        """The best candidate that pads shorter rows to a longer bucket, if it is worth more than ``best``."""
        family = [one for one in self._waiting.buckets.values() if one.heap and one.shape == urgent.shape]
        for target in family if len(family) > 1 else ():
            if target.size >= urgent.size:
                others = [one for one in family if one is not urgent and one.size <= target.size]
                candidate = _candidate(target, [urgent, *sorted(others, key=lambda one: -one.size)])
                if candidate.worth > best.worth * PADDING_PAYS:
                    best = candidate
        return best

    def _rows_in_time(self, candidate: BatchCandidate, now_ns: int, slowdown: float) -> int:
        """The rows of a candidate that meet the deadline of its head, which is the earliest of its bucket.

        A head that forces the batch to be very small is evicted when more rows are lost later than it is worth. Under
        overload every head is late, and serving each in the smallest batch would serve no other request in time. The
        idea is the early drop of Nexus (H. Shen et al., SOSP 2019).
        """
        bucket = candidate.members[0]
        deadline_ns = bucket.heap[0][3].deadline_ns
        if deadline_ns == NEVER:
            return candidate.rows
        cost = candidate.target.cost
        slowdown *= cost.spread
        if now_ns + cost.predict_ns(1) > deadline_ns:
            return candidate.rows  # the head is tried although it would be late: no smaller batch helps it
        kept = _fitting(cost, candidate.rows, (deadline_ns - now_ns) / slowdown)
        if kept == candidate.rows or len(bucket.heap) == 1:
            return kept
        best, sacrifice, best_gain, lost = kept, 0, 0.0, 0
        heads = heapq.nsmallest(candidate.rows + 1, bucket.heap)
        for evicted, (head, following) in enumerate(itertools.pairwise(heads), start=1):
            lost += head[3].rows - head[3].cursor
            waiting = sum(one.rows for one in candidate.members) - lost
            left_ns = (following[3].deadline_ns - now_ns) / slowdown
            rows = _fitting(cost, min(candidate.rows, waiting), left_ns)
            gain = rows - lost - kept * cost.predict_ns(rows) / cost.predict_ns(kept)
            if gain > best_gain:
                best, sacrifice, best_gain = rows, evicted, gain
        for _ in range(sacrifice):
            error = DeadlineExceeded("the request was evicted, so that the requests behind it finish in time")
            self._waiting.evict(bucket, error)
        return best

    def _draw(self, bucket: Bucket, room: int, now_ns: int, held_ns: int, slices: list[Slice]) -> int:
        """Move up to ``room`` rows of a bucket into ``slices``; returns how many."""
        waiting = self._waiting
        left = room
        while left and bucket.heap:
            request = bucket.heap[0][3]
            if (request.abandoned or request.deadline_ns != NEVER) and waiting.evict_head(bucket, now_ns):
                continue
            start = request.cursor
            stop = min(request.rows, start + left)
            if start == 0:
                request.picked_ns = now_ns
                request.held_ns = held_ns - request.held_ns
            slices.append((request, start, stop))
            request.cursor = stop
            bucket.rows -= stop - start
            left -= stop - start
            if stop == request.rows:
                heapq.heappop(bucket.heap)
                waiting.bytes -= request.size_bytes
        return room - left


def _candidate(target: Bucket, members: list[Bucket]) -> BatchCandidate:
    cost = target.cost
    waiting = sum([one.rows for one in members])
    rows = min(cost.efficient_rows(waiting), target.largest)
    # Rows of a single request are cut for the sake of those that wait behind them. Where none do, the sum counts.
    if rows < waiting <= target.largest and len(members) == len(target.heap) == 1:
        parts_ns = cost.predict_ns(rows) + cost.predict_ns(waiting - rows)
        rows = waiting if cost.predict_ns(waiting) < parts_ns else rows
    alone_ns, room = 0.0, rows
    for one in members:
        drawn = min(one.rows, room)
        alone_ns += drawn * one.cost.row_ns
        room -= drawn
    return BatchCandidate(target, members, rows, alone_ns / cost.predict_ns(rows))


def _fitting(cost: CostTable, rows: int, left_ns: float) -> int:
    """The largest number of rows, at least one, whose run takes no longer than ``left_ns``."""
    while rows > 1 and cost.predict_ns(rows) > left_ns:
        rows -= (rows + 7) // 8
    return rows
