"""The queue: which requests wait for a model, and which of them should run together next.

It decides and does nothing else: no IO, no thread, no clock (every call is told what time it is, in nanoseconds of one
monotonic clock). A batch is formed at the moment at which an instance can start it, never earlier, so that late
arrivals still join it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace

from ..errors import ClientGone, DeadlineExceeded
from ..request import NEVER, InferRequest
from ..tensors import Array
from .cost import WORTH_IT, CostTable

SWEEP_NS = 10_000_000
"""Least time between two looks for expired requests."""

PADDING_PAYS = 1.03
"""Padding has to beat running the most urgent shape alone by this factor."""

SHARED = 1.1
"""Instances whose runs are slowed down by more than this when all of them run share their device."""

KEPT_BUCKETS = 256
"""Shapes whose measured costs are remembered while nothing waits for them."""

Slice = tuple[InferRequest, int, int]


class Batch:
    """Rows that run together: slices (request, first row, end row), of one shape bucket."""

    __slots__ = (
        *("arrays", "assembled_ns", "bucket", "computed_ns", "length", "out_of_memory", "outputs"),
        *("picked_ns", "rows", "slices"),
    )

    def __init__(self, bucket: Bucket | None, slices: list[Slice], rows: int, picked_ns: int, length: int = 0) -> None:
        """``length``: what the padded axis is padded to; 0 when nothing is."""
        self.bucket = bucket
        self.slices = slices
        self.rows = rows
        self.picked_ns = picked_ns
        self.length = length
        self.out_of_memory = False
        self.arrays: tuple[Array, ...] = ()
        self.outputs: list[Array] = []
        self.assembled_ns = 0
        self.computed_ns = 0

    def positions(self) -> tuple[int, int]:
        """Of the padded axis, over the rows that did not fail: how many were asked for, and how many padding added."""
        real = rows = 0
        for request, start, stop in self.slices:
            real += request.positions(start, stop)
            rows += stop - start
        return real, rows * self.length - real


class Bucket:
    """Waiting requests of one shape, in the order in which they should run, and what running that shape costs.

    ``size`` is the largest length of the padded axis that belongs here, 0 where nothing is padded. ``largest`` is the
    most rows that the device has memory for, as learnt.
    """

    __slots__ = ("cost", "heap", "largest", "rows", "shape", "size")

    def __init__(self, shape: Hashable, size: int, cost: CostTable) -> None:
        self.shape = shape
        self.size = size
        self.cost = cost
        self.heap: list[tuple[int, int, int, InferRequest]] = []
        self.rows = 0
        self.largest = cost.max_batch_size


@dataclass(frozen=True, slots=True)
class Company:
    """Who would run together: in the shape of ``target``, ``rows`` rows, drawn from ``members`` in that order.

    ``worth`` is the time that these rows would take in their own shapes at their best batch sizes, over the time that
    this run takes: 1 is as good as it gets without padding.
    """

    target: Bucket
    members: list[Bucket]
    rows: int
    worth: float


class BatchQueue:
    """The waiting requests of one model, which has ``instances`` that can each run one batch at a time."""

    def __init__(
        self,
        max_batch_size: int,
        seeds: Iterable[tuple[int, float]],
        instances: int = 1,
        max_delay_ns: int = 0,
        sizes: Mapping[int, Iterable[tuple[int, float]]] | None = None,
        crowding: float = 1.0,
    ) -> None:
        """``seeds``: (rows, nanoseconds) to begin with, of runs with nothing beside them. ``sizes``: the bucket sizes
        of the padded axis, each with seeds of its own; a length beyond the largest gets a bucket for itself.
        ``crowding``: how many times longer a run takes while all instances run, as measured."""
        self._max_batch_size = max_batch_size
        self._seeds = list(seeds)
        self._sizes = {size: list(own) for size, own in sorted((sizes or {}).items())}
        self._instances = instances
        self._max_delay_ns = max_delay_ns
        self._crowding = crowding
        self._row_share = crowding / instances  # of a row's time that the next row waits for it
        self._crowded_until = NEVER
        self._buckets: dict[Hashable, Bucket] = {}
        self._running: dict[Batch, tuple[int, float]] = {}  # predicted end, and how much slower than alone
        self._sequence = 0
        self._held_ns = 0
        self._holding_since = 0
        self._dead: list[InferRequest] = []
        self.waiting_bytes = 0
        """Bytes of the arrays of everything that waits."""

    def push(self, request: InferRequest, shape: Hashable, now_ns: int) -> None:
        """Let a request wait. ``shape`` tells which requests may share a run with it, padded to one length or not.

        Requests are ordered by deadline, or by when their patience ends if that is sooner: what is urgent goes first,
        and whatever has waited for long enough becomes urgent.
        """
        bucket = self._bucket(shape, request.length)
        order = min(request.deadline_ns, now_ns + request.patience_ns)
        self._sequence += 1
        request.held_ns = self._held_until(now_ns)
        heapq.heappush(bucket.heap, (order, self._sequence, now_ns, request))
        bucket.rows += request.rows
        self.waiting_bytes += request.size_bytes

    def pull(self, now_ns: int, limit_ns: int = NEVER) -> Batch | None:
        """The batch to start now, or None: nothing waits, or company is worth waiting for until :meth:`wake_ns`.

        ``limit_ns``: what the batch should take at most, if a row does not take longer by itself."""
        slower = 1.0
        if self._crowding != 1.0:
            self._crowded_until = NEVER
            slower = self._slower(len(self._running) + 1)
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
            company = self._company(bucket)
            if limit_ns != NEVER:
                company = replace(company, rows=_fitting(company.target.cost, company.rows, limit_ns))
            if slower > SHARED and self._crowds(company, now_ns, slower):
                return None
            batch = self._form(company, self._in_time(company, now_ns, slower), now_ns)
            if batch is not None:
                self._running[batch] = (now_ns + int(company.target.cost.predict_ns(batch.rows) * slower), slower)
                return batch

    def release(self, batch: Batch) -> None:
        """A batch has run: its instance is idle again, and the cost table learns from it."""
        _, slower = self._running.pop(batch)
        bucket = batch.bucket
        if bucket is None:
            return
        if batch.out_of_memory:
            bucket.largest = max(min(bucket.largest, batch.rows // 2), 1)
        elif batch.outputs:
            took_ns = batch.computed_ns - batch.picked_ns
            bucket.cost.record(batch.rows, took_ns if slower == 1.0 else int(took_ns / slower))

    def backlog_ns(self, now_ns: int) -> int:
        """Predicted time until a request that arrived now would start."""
        waiting_ns = 0.0
        for bucket in self._buckets.values():
            if bucket.rows:
                waiting_ns += bucket.rows * bucket.cost.row_ns
        waiting_ns *= self._row_share
        if len(self._running) >= self._instances:
            waiting_ns += max(min(self._running.values())[0] - now_ns, 0)
        return int(waiting_ns)

    def finish_ns(self, rows: int, shape: Hashable, length: int, now_ns: int, wait_ns: int) -> int:
        """When a request that arrived now would be answered: after the wait, in the batch that it would be in.

        The wait is taken to be longer by as much as runs scatter: else all that is admitted to a full queue would end
        at its deadline, and half of it just after. Not so the run: what nobody waits for is tried, and learnt from."""
        bucket = self._bucket(shape, length)
        company = bucket.cost.efficient_rows(bucket.rows + rows)
        slower = self._slower(min(len(self._running) + 1, self._instances)) if self._crowding != 1.0 else 1.0
        run_ns = bucket.cost.predict_ns(max(rows, company)) * slower
        return now_ns + int(wait_ns * bucket.cost.spread + run_ns)

    def cost(self, shape: Hashable, length: int = 0) -> CostTable:
        """The cost table of a shape."""
        return self._bucket(shape, length).cost

    def costs(self) -> list[tuple[int, CostTable]]:
        """(bucket size, cost table): the oldest table of each size, size 0 where nothing is padded."""
        if not self._buckets:
            return [(0, CostTable(self._max_batch_size, self._seeds))]
        tables: dict[int, CostTable] = {}
        for bucket in self._buckets.values():
            tables.setdefault(bucket.size, bucket.cost)
        return sorted(tables.items())

    def wake_ns(self) -> int:
        """When a batch that is held back must start, or be looked at again; NEVER when none is held."""
        if not self._holding_since:
            return self._crowded_until
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
        self.waiting_bytes = 0
        return waiting

    @property
    def waiting_rows(self) -> int:
        return sum(bucket.rows for bucket in self._buckets.values())

    @property
    def idle_instances(self) -> int:
        return self._instances - len(self._running)

    def _bucket(self, shape: Hashable, length: int) -> Bucket:
        size = next((size for size in self._sizes if size >= length), length) if length else 0
        bucket = self._buckets.get((shape, size))
        if bucket is None:
            if len(self._buckets) >= KEPT_BUCKETS:
                self._buckets = {key: one for key, one in self._buckets.items() if one.heap}
            cost = CostTable(self._max_batch_size, self._sizes.get(size) or self._seeds)
            bucket = self._buckets[shape, size] = Bucket(shape, size, cost)
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
        self._remove_head(bucket)
        return True

    def _remove_head(self, bucket: Bucket) -> None:
        request = heapq.heappop(bucket.heap)[3]
        bucket.rows -= request.rows - request.cursor
        self.waiting_bytes -= request.size_bytes
        self._dead.append(request)

    def _company(self, urgent: Bucket) -> Company:
        """Whether the most urgent bucket runs in its own shape, or padded together with longer or shorter ones."""
        best = self._companions(urgent, [urgent])
        if not urgent.size:
            return best
        family = [one for one in self._buckets.values() if one.heap and one.shape == urgent.shape]
        for target in family if len(family) > 1 else ():
            if target.size >= urgent.size:
                others = [one for one in family if one is not urgent and one.size <= target.size]
                members = [urgent, *sorted(others, key=lambda one: -one.size)]
                company = self._companions(target, members)
                if company.worth > best.worth * PADDING_PAYS:
                    best = company
        return best

    def _companions(self, target: Bucket, members: list[Bucket]) -> Company:
        waiting = sum(one.rows for one in members)
        rows = min(target.cost.efficient_rows(waiting), target.largest)
        alone_ns, room = 0.0, rows
        for one in members:
            drawn = min(one.rows, room)
            alone_ns += drawn * one.cost.row_ns
            room -= drawn
        return Company(target, members, rows, alone_ns / target.cost.predict_ns(rows))

    def _slower(self, busy: int) -> float:
        """How many times longer than alone a run takes when ``busy`` instances run."""
        return 1.0 + (self._crowding - 1.0) * (busy - 1) / (self._instances - 1)

    def _crowds(self, company: Company, now_ns: int, slower: float) -> bool:
        """Whether a batch should wait for an instance that runs, rather than start beside it and slow both down.

        Only where the instances share their device, and where the batch would cost more device time a row beside the
        others than rows of a good batch do alone. Then it waits if all of them together do no more when one more runs;
        or if one is about to be free so soon that the rows are answered no later than if they had started now. What
        waits goes on growing, what runs ends sooner. A run that should have ended and did not is not waited for long.
        """
        busy = len(self._running)
        if not busy:
            return False
        cost = company.target.cost
        alone_ns = cost.predict_ns(company.rows)
        if WORTH_IT * alone_ns * slower / (busy + 1) <= company.rows * cost.row_ns:
            return False
        pays = WORTH_IT * (busy + 1) / slower > busy / self._slower(busy)
        soon_ns = int(alone_ns * (slower - 1.0))
        free_ns = min(self._running.values())[0]
        if (pays and free_ns - now_ns > soon_ns) or now_ns - free_ns > soon_ns:
            return False
        self._crowded_until = free_ns + soon_ns + 1
        return True

    def _in_time(self, company: Company, now_ns: int, slower: float) -> int:
        """The rows of a company that still meet the deadline of its head, which is the earliest of its bucket.

        Heads for whose sake the batch would become so small that more rows are lost later than they are worth are given
        up: under overload every head is late, and serving each in the smallest batch would serve nobody else. The idea
        is that of the early drop of Nexus (H. Shen et al., SOSP 2019).
        """
        bucket = company.members[0]
        deadline_ns = bucket.heap[0][3].deadline_ns
        if deadline_ns == NEVER:
            return company.rows
        cost = company.target.cost
        slower *= cost.spread
        kept = _fitting(cost, company.rows, (deadline_ns - now_ns) / slower)
        if kept == company.rows or len(bucket.heap) == 1:
            return kept
        best, sacrifice, best_gain, lost = kept, 0, 0.0, 0
        heads = heapq.nsmallest(company.rows + 1, bucket.heap)
        for given_up, (head, following) in enumerate(itertools.pairwise(heads), start=1):
            lost += head[3].rows - head[3].cursor
            waiting = sum(one.rows for one in company.members) - lost
            rows = _fitting(cost, min(company.rows, waiting), (following[3].deadline_ns - now_ns) / slower)
            gain = rows - lost - kept * cost.predict_ns(rows) / cost.predict_ns(kept)
            if gain > best_gain:
                best, sacrifice, best_gain = rows, given_up, gain
        for _ in range(sacrifice):
            request = bucket.heap[0][3]
            request.error = DeadlineExceeded("the request was given up, so that those behind it are answered in time")
            self._remove_head(bucket)
        return best

    def _form(self, company: Company, size: int, now_ns: int) -> Batch | None:
        slices: list[Slice] = []
        room = size
        for bucket in company.members:
            room -= self._draw(bucket, room, now_ns, slices)
        if not slices:
            return None
        length = max([request.length for request, _, _ in slices]) if company.target.size else 0
        return Batch(company.target, slices, size - room, now_ns, length)

    def _draw(self, bucket: Bucket, room: int, now_ns: int, slices: list[Slice]) -> int:
        """Move up to ``room`` rows of a bucket into ``slices``; returns how many."""
        left = room
        while left and bucket.heap:
            request = bucket.heap[0][3]
            if (request.abandoned or request.deadline_ns != NEVER) and self._bury(bucket, now_ns):
                continue
            start = request.cursor
            stop = min(request.rows, start + left)
            if stop == request.rows:
                heapq.heappop(bucket.heap)
                self.waiting_bytes -= request.size_bytes
            if start == 0:
                request.picked_ns = now_ns
                request.held_ns = self._held_ns - request.held_ns
            request.cursor = stop
            slices.append((request, start, stop))
            left -= stop - start
        bucket.rows -= room - left
        return room - left

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


def _fitting(cost: CostTable, rows: int, left_ns: float) -> int:
    """The largest number of rows, at least one, that takes no longer than what is left."""
    while rows > 1 and cost.predict_ns(rows) > left_ns:
        rows -= (rows + 7) // 8
    return rows
