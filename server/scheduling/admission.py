"""Admission: a request is refused when it would wait too long, finish too late, or need too much memory."""

from __future__ import annotations

from collections.abc import Hashable

from ..errors import DeadlineExceeded, Overloaded, SlipwayError
from ..request import NEVER, InferRequest
from .device import ModelTurns
from .queue import BatchQueue

UNLIMITED = 1 << 62


class LoopLag:
    """How late the event loop learns that a batch has been computed, in nanoseconds: it may be reading bodies."""

    __slots__ = ("ns",)

    def __init__(self) -> None:
        self.ns = 0.0


class Admission:
    """Admits the requests of one queue. Not thread-safe: called with the lock of the queue held."""

    def __init__(
        self,
        queue: BatchQueue,
        lag: LoopLag,
        max_queue_ns: int,
        max_queue_bytes: int = UNLIMITED,
        turns: ModelTurns | None = None,
    ) -> None:
        """``max_queue_ns``: the longest predicted wait. ``max_queue_bytes``: the most bytes of all waiting arrays; a
        single request may be larger. ``turns``: the turns of this model on a device that models share."""
        self._queue = queue
        self._max_queue_ns = max_queue_ns
        self._max_queue_bytes = max_queue_bytes
        self._turns = turns
        self._lag = lag

    def wait_ns(self, now_ns: int) -> int:
        """The predicted wait of a request that arrives now, with the turns of other models."""
        wait_ns = self._queue.backlog_ns(now_ns)
        return wait_ns if self._turns is None else int(wait_ns * self._turns.slowdown())

    def admit(self, request: InferRequest, shape: Hashable, now_ns: int) -> None:
        """Raises Overloaded, with a computed Retry-After, when the request must be refused, and DeadlineExceeded for a
        deadline that even an idle server could not meet: to come back later does not help."""
        wait_ns = self.wait_ns(now_ns)
        if wait_ns > self._max_queue_ns:
            raise too_long(wait_ns, self._max_queue_ns)
        waiting_bytes = self._queue.waiting.bytes
        if waiting_bytes and waiting_bytes + request.size_bytes > self._max_queue_bytes:
            raise too_large(waiting_bytes, wait_ns)
        if request.deadline_ns != NEVER:
            ready_ns = wait_ns + int(self._lag.ns)
            finish_ns = self._queue.finish_ns(request.rows, shape, request.length, now_ns, ready_ns)
            if finish_ns > request.deadline_ns:
                run_ns = self._queue.cost(shape, request.length).predict_ns(request.rows)
                raise too_late(finish_ns - request.deadline_ns, now_ns + run_ns - request.deadline_ns)

    def foresee(self, now_ns: int, deadline_ns: int) -> None:
        """Raises Overloaded where the wait alone is too long for every request with this deadline."""
        wait_ns = self.wait_ns(now_ns)
        if wait_ns > self._max_queue_ns:
            raise too_long(wait_ns, self._max_queue_ns)
        ready_ns = now_ns + wait_ns + int(self._lag.ns)
        if ready_ns > deadline_ns:
            raise too_late(ready_ns - deadline_ns)


def too_long(wait_ns: int, limit_ns: int) -> Overloaded:
    """The refusal of a request whose predicted wait exceeds the limit."""
    return Overloaded(f"overloaded: the wait would be {wait_ns // 1_000_000} ms", retry_seconds(wait_ns - limit_ns))


def too_late(late_ns: int, alone_late_ns: int = 0) -> SlipwayError:
    """The refusal of a request that would miss its deadline by ``late_ns``, and by ``alone_late_ns`` on an idle server:
    Overloaded, or DeadlineExceeded where the second is positive."""
    if alone_late_ns > 0:
        return DeadlineExceeded(
            f"the deadline is {alone_late_ns / 1e6:.1f} ms too early even for an idle server: allow more time"
        )
    return Overloaded(
        f"overloaded: the answer would be {late_ns / 1e6:.1f} ms after the deadline", retry_seconds(late_ns)
    )


def too_large(waiting_bytes: int, wait_ns: int) -> Overloaded:
    """The refusal of a request for which the queue has no memory left."""
    return Overloaded(f"overloaded: {waiting_bytes / 1e6:.0f} MB of requests wait already", retry_seconds(wait_ns))


def retry_seconds(wait_ns: int) -> int:
    """Retry-After: whole seconds, rounded up, at least one."""
    return max(-(-wait_ns // 1_000_000_000), 1)
