"""Admission: a request is refused when it would wait too long, finish too late, or need too much memory."""

from __future__ import annotations

from collections.abc import Hashable

from ..errors import Overloaded
from ..request import NEVER, InferRequest
from .device import ModelTurns
from .queue import BatchQueue

UNLIMITED = 1 << 62

LAG_WEIGHT = 0.1
"""Weight of the newest batch in the estimate of how late the event loop learns that a batch has been computed."""


class Admission:
    """Admits the requests of one queue. Not thread-safe: called with the lock of the queue held."""

    def __init__(
        self, queue: BatchQueue, max_queue_ns: int, max_queue_bytes: int = UNLIMITED, turns: ModelTurns | None = None
    ) -> None:
        """``max_queue_ns``: the longest predicted wait. ``max_queue_bytes``: the most bytes of all waiting arrays; a
        single request may be larger. ``turns``: the turns of this model on a device that models share."""
        self._queue = queue
        self._max_queue_ns = max_queue_ns
        self._max_queue_bytes = max_queue_bytes
        self._turns = turns
        self._lag_ns = 0.0

    def wait_ns(self, now_ns: int) -> int:
        """The predicted wait of a request that arrives now, with the turns of other models."""
        wait_ns = self._queue.backlog_ns(now_ns)
        return wait_ns if self._turns is None else int(wait_ns * self._turns.slowdown())

    def admit(self, request: InferRequest, shape: Hashable, now_ns: int) -> None:
        """Raises Overloaded, with a computed Retry-After, when the request must be refused."""
        wait_ns = self.wait_ns(now_ns)
        if wait_ns > self._max_queue_ns:
            raise too_long(wait_ns, self._max_queue_ns)
        waiting_bytes = self._queue.waiting.bytes
        if waiting_bytes and waiting_bytes + request.size_bytes > self._max_queue_bytes:
            raise too_large(waiting_bytes, wait_ns)
        if request.deadline_ns != NEVER:
            ready_ns = wait_ns + int(self._lag_ns)
            finish_ns = self._queue.finish_ns(request.rows, shape, request.length, now_ns, ready_ns)
            if finish_ns > request.deadline_ns:
                raise too_late(finish_ns - request.deadline_ns)

    def foresee(self, now_ns: int, deadline_ns: int) -> None:
        """Raises Overloaded where the wait alone is too long for every request with this deadline."""
        wait_ns = self.wait_ns(now_ns)
        if wait_ns > self._max_queue_ns:
            raise too_long(wait_ns, self._max_queue_ns)
        ready_ns = now_ns + wait_ns + int(self._lag_ns)
        if ready_ns > deadline_ns:
            raise too_late(ready_ns - deadline_ns)

    def learn_lag(self, lag_ns: int) -> None:
        """The event loop learnt this much late that a batch had been computed: it may be reading bodies."""
        self._lag_ns += LAG_WEIGHT * (max(lag_ns, 0) - self._lag_ns)


def too_long(wait_ns: int, limit_ns: int) -> Overloaded:
    """The refusal of a request whose predicted wait exceeds the limit."""
    return Overloaded(f"overloaded: the wait would be {wait_ns // 1_000_000} ms", retry_seconds(wait_ns - limit_ns))


def too_late(late_ns: int) -> Overloaded:
    """The refusal of a request that would miss its deadline by ``late_ns``."""
    return Overloaded(
        f"overloaded: the answer would be {late_ns / 1e6:.1f} ms after the deadline", retry_seconds(late_ns)
    )


def too_large(waiting_bytes: int, wait_ns: int) -> Overloaded:
    """The refusal of a request for which the queue has no memory left."""
    return Overloaded(f"overloaded: {waiting_bytes / 1e6:.0f} MB of requests wait already", retry_seconds(wait_ns))


def retry_seconds(wait_ns: int) -> int:
    """Retry-After: whole seconds, rounded up, at least one."""
    return max(-(-wait_ns // 1_000_000_000), 1)
