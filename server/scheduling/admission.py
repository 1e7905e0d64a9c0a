"""Admission: a request is refused when it would wait too long, finish too late, or need too much memory."""

from __future__ import annotations

from collections.abc import Hashable

from ..errors import DeadlineExceeded, Overloaded, SlipwayError
from ..request import NEVER, InferRequest
from .device import ModelTurns
from .queue import BatchQueue

UNLIMITED = 1 << 62

LAG_WEIGHT = 0.1
"""Weight of the newest batch in the estimate of the event loop's lag."""

PROBE_EVERY = 10
"""Requests without a chance are tried on an idle server once in so many of their runs."""


class LoopLag:
    """How late the event loop learns that a batch has been computed, in nanoseconds: it may be reading bodies."""

    __slots__ = ("ns",)

    def __init__(self) -> None:
        self.ns = 0.0

    def learn(self, lag_ns: int, probe: bool) -> None:
        """Learn from one batch. A probe's shorter lag is believed as it is: the estimate may be why no other ran."""
        self.ns += (1.0 if probe and lag_ns < self.ns else LAG_WEIGHT) * (lag_ns - self.ns)


class Probes:
    """Decides whether a request that would be late on an idle server is tried all the same.

    An estimate that refuses everything gets no measurement that could correct it. A request that the fastest runs of
    the last minutes could answer in time is always tried. One that they could not is tried for a share of the time
    only, because its run delays the requests that come next, and not at once.
    """

    __slots__ = ("_again_ns",)

    def __init__(self) -> None:
        self._again_ns = 0

    def allow(self, now_ns: int, deadline_ns: int, least_ns: int, run_ns: int) -> bool:
        """``least_ns`` and ``run_ns``: the least and the predicted time of the run. Nothing waits, and nothing runs."""
        if deadline_ns <= now_ns:
            return False
        if now_ns + least_ns <= deadline_ns:
            return True
        first = not self._again_ns
        if now_ns < self._again_ns:
            return False
        self._again_ns = now_ns + PROBE_EVERY * run_ns
        return not first


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
        self._probes = Probes()

    def wait_ns(self, now_ns: int) -> int:
        """The predicted wait of a request that arrives now, with the turns of other models."""
        wait_ns = self._queue.backlog_ns(now_ns)
        return wait_ns if self._turns is None else int(wait_ns * self._turns.slowdown())

    def admit(self, request: InferRequest, shape: Hashable, now_ns: int) -> None:
        """Raises Overloaded, with a computed Retry-After, when the request must be refused, and DeadlineExceeded for a
        deadline that even an idle server could not meet: to come back later does not help.

        A request to an idle model may become a ``probe`` instead: it is tried, so that a wrong estimate is corrected.
        """
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
                self._try(request, shape, now_ns, finish_ns)

    def _try(self, request: InferRequest, shape: Hashable, now_ns: int, finish_ns: int) -> None:
        """Make a request that is predicted to be late a probe, or raise as :meth:`admit` does."""
        cost = self._queue.cost(shape, request.length)
        run_ns = cost.predict_ns(request.rows)
        if self._queue.idle and self._probes.allow(now_ns, request.deadline_ns, cost.least_ns(request.rows), run_ns):
            request.probe = True
            return
        cost.age(now_ns)
        raise too_late(finish_ns - request.deadline_ns, now_ns + run_ns - request.deadline_ns)

    def foresee(self, now_ns: int, deadline_ns: int) -> None:
        """Raises Overloaded where the wait alone is too long for every request with this deadline."""
        if deadline_ns > now_ns and self._queue.idle:
            return  # the request may become a probe
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
