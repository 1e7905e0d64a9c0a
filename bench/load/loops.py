"""The loops: an open one that keeps its schedule whatever the server does, and a closed one of waiting users.

What they decide is here; whatever turns them (asyncio, or gevent under locust) is a ``Reactor``. So both engines send
the same requests at the same instants, and see the same in what comes back.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .arrivals import NS_PER_S
from .connection import Clock
from .measurements import Failure, Measurements, Outcome, Request
from .pool import Ended, Pool
from .schedule import MAX_ARRIVALS, Schedule
from .server_timing import Carrier
from .target import Target
from .timer import Timer
from .wire import Wire

HOUSEKEEPING_S = 0.02
LEAD_NS = 20_000_000
# Requests sent without looking at replies: a generator that only catches up would read every reply late.
MAX_BURST = 32
# A refused connection must not become a busy loop of refused connections.
RETRY_AFTER_FAILURE_S = 0.05
RENEW_S = 120.0
Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True, slots=True)
class Shot:
    """Where to and with what: everything about a load except its timing. ``timeout_s`` is from the intended instant.

    ``choices``: which of ``wires`` a request carries, by its number and cyclic. ``renew`` makes wires anew, for those
    whose signatures grow old; it runs in a thread every ``RENEW_S`` seconds.
    """

    target: Target
    wires: tuple[Wire, ...]
    choices: NDArray[np.uint16]
    carrier: Carrier
    timeout_s: float
    max_connections: int
    renew: Callable[[], tuple[Wire, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A look at a running load, for a progress line."""

    elapsed_s: float
    ended: int
    failed: int
    in_flight: int


@dataclass(frozen=True, slots=True, eq=False)
class RawRun:
    """Everything that a load saw. ``columns`` as in ``measurements.COLUMNS``, in schedule order.

    ``start_ns``: the start of the load by perf_counter, which all processes of a machine share. ``scheduled_ns``:
    int64, the intended instants that a complete run sends (empty for a closed loop). ``generator_cpu`` is the share of
    one core, 1.0 = all of it, while requests were being sent. ``abandoned``: requests in flight when Ctrl-C came;
    nothing more is known of them.
    """

    columns: dict[str, NDArray[np.int64]]
    failures: dict[str, Failure]
    scheduled_ns: NDArray[np.int64]
    generator_cpu: float
    peak_in_flight: int
    cap_hits: int
    exhausted: bool
    interrupted: bool
    abandoned: int
    start_ns: int = 0


Watch = Callable[[Snapshot], None]


class Pending(Protocol[Result]):
    """Work that a thread does meanwhile."""

    def done(self) -> bool: ...

    def result(self) -> Result: ...


PoolType = TypeVar("PoolType", bound=Pool, covariant=True)


class Reactor(Protocol[PoolType]):
    """What a loop needs of whatever turns it. ``end``: the load is over."""

    def pool(self, shot: Shot, clock: Clock, measurements: Measurements, ended: Ended) -> PoolType: ...

    def timer(self, callback: Callable[[], None]) -> Timer: ...

    def later(self, seconds: float, callback: Callable[[], None]) -> None: ...

    def in_thread(self, work: Callable[[], Result]) -> Pending[Result]: ...

    def end(self) -> None: ...


class Load(ABC):
    """What both loops share: the pool, housekeeping, the end. ``_start`` and ``_ended`` are the loop's own.

    Whoever drives it opens connections, says ``begin``, looks in every ``HOUSEKEEPING_S`` until the reactor is told the
    end, and then takes the ``result``.
    """

    def __init__(
        self,
        shot: Shot,
        clock: Clock,
        reactor: Reactor[Pool],
        scheduled_ns: NDArray[np.int64],
        measurements: Measurements | None = None,
    ) -> None:
        self._clock = clock
        self._reactor = reactor
        self._scheduled_ns = scheduled_ns
        self._measurements = measurements if measurements is not None else Measurements()
        self._pool = reactor.pool(shot, clock, self._measurements, self._ended)
        self._wires = shot.wires
        self._choices = memoryview(shot.choices)  # type: ignore[arg-type]  # an array is a buffer
        self._renew = shot.renew
        self._renewed_ns = clock()
        self._renewal: Pending[tuple[Wire, ...]] | None = None
        self._start_ns = 0
        self._sending = True
        self._cpu_s = 0.0
        self._wall_s = 0.0
        self._interrupted = False

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _stop(self) -> None: ...

    @abstractmethod
    def _ended(self, _outcome: Outcome) -> None: ...

    def _request(self, index: int, due_ns: int, picked_ns: int) -> Request:
        payload = self._choices[index % len(self._choices)]
        wire = self._wires[payload]
        return Request(index, due_ns, picked_ns, wire.numbered(index), payload, wire.body_bytes)

    def begin(self, start_ns: int) -> None:
        """Send from that instant on, with whatever connections there are."""
        self._start_ns = self._measurements.start_ns = start_ns
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()
        if not self._interrupted:
            self._start()

    def look(self, watch: Watch | None) -> None:
        """Give up what is too late, renew what grows old, tell how far it is."""
        now_ns = self._clock()
        self._pool.expire(now_ns)
        self._renew_wires(now_ns)
        if watch is not None:
            elapsed_s = (now_ns - self._start_ns) / NS_PER_S
            rows = self._measurements
            watch(Snapshot(elapsed_s, len(rows), rows.failed, self._pool.in_flight))

    def interrupt(self) -> None:
        """End it now, with what there is."""
        self._interrupted = True
        self.end_sending()
        self._reactor.end()

    def result(self) -> RawRun:
        """What was seen."""
        return RawRun(
            columns=self._measurements.columns(),
            failures=self._measurements.failures,
            scheduled_ns=self._scheduled_ns,
            # A share that had nothing to send has no load to speak of.
            generator_cpu=self._cpu_s / self._wall_s if self._wall_s > HOUSEKEEPING_S else 0.0,
            peak_in_flight=self._pool.peak_in_flight,
            cap_hits=self._pool.cap_hits,
            exhausted=self._pool.exhausted,
            interrupted=self._interrupted,
            abandoned=self._pool.in_flight,
            start_ns=self._start_ns,
        )

    def _renew_wires(self, now_ns: int) -> None:
        if self._renewal is not None and self._renewal.done():
            self._wires, self._renewal = self._renewal.result(), None
        if self._renew is not None and self._renewal is None and now_ns - self._renewed_ns > RENEW_S * NS_PER_S:
            self._renewed_ns = now_ns
            self._renewal = self._reactor.in_thread(self._renew)

    def end_sending(self) -> None:
        """Nothing is sent after this; the generator's own load is what it was until here."""
        if self._sending:
            self._sending = False
            self._stop()
            self._cpu_s = time.process_time() - self._cpu_s
            self._wall_s = time.perf_counter() - self._wall_s
        if self._pool.in_flight == 0:
            self._reactor.end()


class OpenLoop(Load):
    """Each request at its intended instant, whether or not earlier ones were answered."""

    def __init__(
        self,
        shot: Shot,
        schedule: Schedule,
        clock: Clock,
        reactor: Reactor[Pool],
        measurements: Measurements | None = None,
    ) -> None:
        super().__init__(shot, clock, reactor, schedule.offsets_ns, measurements)
        self._due = memoryview(schedule.offsets_ns)  # type: ignore[arg-type]  # an array is a buffer
        self._next = 0
        self._first, self._step = schedule.first, schedule.step
        self._timer = reactor.timer(self._send_due)

    def _start(self) -> None:
        self._send_due()

    def _stop(self) -> None:
        self._timer.close()

    def _ended(self, _outcome: Outcome) -> None:
        if not self._sending and self._pool.in_flight == 0:
            self._reactor.end()

    def _send_due(self) -> None:
        """Everything that is due now, then the timer for the next; the schedule itself never moves."""
        due, count, start_ns = self._due, len(self._due), self._start_ns
        burst_end = self._next + MAX_BURST
        now_ns = self._clock()
        while self._next < count and self._next < burst_end and start_ns + due[self._next] <= now_ns:
            index = self._first + self._next * self._step
            self._pool.submit(self._request(index, start_ns + due[self._next], now_ns))
            self._next += 1
            now_ns = self._clock()
        if self._next < count:
            self._timer.set(start_ns + due[self._next])
        else:
            self.end_sending()


class ClosedLoop(Load):
    """``users`` callers, each sending when its last reply has come."""

    def __init__(
        self,
        shot: Shot,
        users: int,
        duration_s: float,
        clock: Clock,
        reactor: Reactor[Pool],
        measurements: Measurements | None = None,
    ) -> None:
        super().__init__(shot, clock, reactor, np.empty(0, dtype=np.int64), measurements)
        self._users = users
        self._duration_ns = round(duration_s * NS_PER_S)
        self._sent = 0

    def _start(self) -> None:
        wait_s = (self._start_ns - self._clock()) / NS_PER_S
        if wait_s > 0:
            self._reactor.later(wait_s, self._start)
            return
        for _ in range(self._users):
            self._send_next()

    def _stop(self) -> None:
        pass

    def _ended(self, _outcome: Outcome) -> None:
        if _outcome == Outcome.CONNECTION:
            self._reactor.later(RETRY_AFTER_FAILURE_S, self._send_next)
        else:
            self._send_next()

    def _send_next(self) -> None:
        now_ns = self._clock()
        if not self._sending or now_ns - self._start_ns >= self._duration_ns or self._sent >= MAX_ARRIVALS:
            self.end_sending()
            return
        self._pool.submit(self._request(self._sent, now_ns, now_ns))
        self._sent += 1


def warm_connections(schedule: Schedule) -> int:
    """About the connections in use at 20 ms a reply; more are opened as they are needed."""
    return max(4, round(schedule.rate_per_s * 0.02))
