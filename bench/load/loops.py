"""The loops: an open loop that keeps its schedule whatever the server does, and a closed loop of waiting callers.

The decisions of a load are here. A ``Driver`` runs them: on asyncio, or on gevent under locust. So both engines send
the same requests at the same instants, and record the same of the responses.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .arrivals import NS_PER_S
from .callers import Callers
from .connection import Clock
from .measurements import Measurements, Outcome, Request
from .own_delay import delay_since, own_run_delay_ns
from .pool import Dial, Pool
from .raw_run import RawRun, Snapshot, Watch
from .schedule import MAX_ARRIVALS, Schedule
from .shot import RENEW_S, Shot
from .timer import Timer
from .wire import Wire

HOUSEKEEPING_S = 0.02
"""Between two looks at deadlines and progress."""
LEAD_NS = 20_000_000
"""From the last opened connection to the start of a load."""
MAX_BURST = 32
"""Requests sent in a row without reading: a generator that only catches up would read every response late."""
RETRY_AFTER_FAILURE_S = 0.05
"""A caller waits so long after a refused connection, which could otherwise be refused again without pause."""
WARM_S = 0.02
"""Response time for which an open loop opens connections ahead of its start."""
Result = TypeVar("Result", covariant=True)


class Pending(Protocol[Result]):
    """The result of a call in a thread, when it is done."""

    def done(self) -> bool: ...

    def result(self) -> Result: ...


class Driver(Protocol):
    """The event loop that runs a load.

    ``dial`` opens a connection of the pool. ``changed``: a connection was opened, refused or closed. ``end``: the load
    is over.
    """

    @property
    def dial(self) -> Dial: ...

    def changed(self) -> None: ...

    def timer(self, callback: Callable[[], None]) -> Timer: ...

    def later(self, seconds: float, callback: Callable[[], None]) -> None: ...

    def in_thread(self, work: Callable[[], Result]) -> Pending[Result]: ...

    def end(self) -> None: ...


class Load(ABC):
    """Both loops: the pool, housekeeping and the end. ``_start``, ``_stop`` and ``_ended`` differ between them.

    The driver opens ``warm_connections``, calls ``begin``, calls ``look`` every ``HOUSEKEEPING_S`` until ``end`` is
    called on it, and then takes the ``result``.
    """

    def __init__(
        self,
        shot: Shot,
        clock: Clock,
        driver: Driver,
        scheduled_ns: NDArray[np.int64],
        warm_connections: int,
        measurements: Measurements,
    ) -> None:
        self.warm_connections = warm_connections
        self.pool = Pool(shot, clock, measurements, self._ended, driver.dial, driver.changed)
        self._clock = clock
        self._driver = driver
        self._scheduled_ns = scheduled_ns
        self._measurements = measurements
        self._wires = shot.wires
        self._choices = memoryview(shot.choices)  # type: ignore[arg-type]  # an array is a buffer
        self._renew = shot.renew
        self._renewed_ns = clock()
        self._renewal: Pending[tuple[Wire, ...]] | None = None
        self._start_ns = 0
        self._sending = True
        self._cpu_s = 0.0
        self._wall_s = 0.0
        self._delay_ns: int | None = None
        self._resent: int | None = None
        self._interrupted = False

    @abstractmethod
    def _start(self) -> None: ...

    @abstractmethod
    def _stop(self) -> None: ...

    @abstractmethod
    def _ended(self, outcome: Outcome) -> None: ...

    def _submit(self, index: int, due_ns: int, picked_ns: int) -> None:
        payload = self._choices[index % len(self._choices)]
        wire = self._wires[payload]
        self.pool.submit(Request(index, due_ns, picked_ns, wire.numbered(index), payload, wire.body_bytes))

    def begin(self, start_ns: int) -> None:
        """Send from that instant on, with the connections that are open."""
        self._start_ns = self._measurements.start_ns = start_ns
        self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()
        self._delay_ns = own_run_delay_ns()
        if not self._interrupted:
            self._start()

    def look(self, watch: Watch | None) -> None:
        """End requests whose time limit has passed, renew wires that expire, report progress."""
        now_ns = self._clock()
        self.pool.expire(now_ns)
        self._renew_wires(now_ns)
        if watch is not None:
            elapsed_s = (now_ns - self._start_ns) / NS_PER_S
            rows = self._measurements
            watch(Snapshot(elapsed_s, len(rows), rows.failed, self.pool.in_flight))

    def interrupt(self) -> None:
        """End the load now; the result has the rows so far."""
        self._interrupted = True
        self.end_sending()
        self._driver.end()

    def result(self) -> RawRun:
        return RawRun(
            columns=self._measurements.columns(),
            failures=self._measurements.failures,
            scheduled_ns=self._scheduled_ns,
            # A share without requests ends at once: its CPU time over that moment means nothing.
            generator_cpu=self._cpu_s / self._wall_s if self._wall_s > HOUSEKEEPING_S else 0.0,
            peak_in_flight=self.pool.peak_in_flight,
            cap_hits=self.pool.cap_hits,
            exhausted=self.pool.exhausted,
            interrupted=self._interrupted,
            abandoned=self.pool.in_flight,
            start_ns=self._start_ns,
            connections=self.pool.opened_in_all,
            run_delay=self._delay_ns / 1e9 / self._wall_s if self._delay_ns is not None and self._wall_s > 0 else None,
            resent=self._resent,
        )

    def _renew_wires(self, now_ns: int) -> None:
        if self._renewal is not None and self._renewal.done():
            self._wires, self._renewal = self._renewal.result(), None
        if self._renew is not None and self._renewal is None and now_ns - self._renewed_ns > RENEW_S * NS_PER_S:
            self._renewed_ns = now_ns
            self._renewal = self._driver.in_thread(self._renew)

    def end_sending(self) -> None:
        """Send nothing more. The generator's CPU share is measured until here."""
        if self._sending:
            self._sending = False
            self._stop()
            self._cpu_s = time.process_time() - self._cpu_s
            self._wall_s = time.perf_counter() - self._wall_s
            self._delay_ns = delay_since(self._delay_ns)
            self._resent = self.pool.resent()
        if self.pool.in_flight == 0:
            self._driver.end()


class OpenLoop(Load):
    """Each request at its intended instant, whether or not earlier ones were answered."""

    def __init__(
        self, shot: Shot, schedule: Schedule, clock: Clock, driver: Driver, measurements: Measurements
    ) -> None:
        warm = max(4, round(schedule.rate_per_s * WARM_S))
        super().__init__(shot, clock, driver, schedule.offsets_ns, warm, measurements)
        self._due = memoryview(schedule.offsets_ns)  # type: ignore[arg-type]  # an array is a buffer
        self._next = 0
        self._first, self._step = schedule.first, schedule.step
        self._timer = driver.timer(self._send_due)

    def _start(self) -> None:
        self._send_due()

    def _stop(self) -> None:
        self._timer.close()

    def _ended(self, outcome: Outcome) -> None:  # noqa: ARG002 - Load
        if not self._sending and self.pool.in_flight == 0:
            self._driver.end()

    def _send_due(self) -> None:
        """Send every request that is due, then set the timer for the next; the schedule itself never moves."""
        due, count, start_ns = self._due, len(self._due), self._start_ns
        burst_end = self._next + MAX_BURST
        now_ns = self._clock()
        while self._next < count and self._next < burst_end and start_ns + due[self._next] <= now_ns:
            self._submit(self._first + self._next * self._step, start_ns + due[self._next], now_ns)
            self._next += 1
            now_ns = self._clock()
        if self._next < count:
            self._timer.set(start_ns + due[self._next])
        else:
            self.end_sending()


class ClosedLoop(Load):
    """Callers that send when their last response has come: a slow server gets fewer requests, and looks better.

    A request is intended at the instant at which its caller can send it: there is no schedule that it could miss.
    """

    def __init__(self, shot: Shot, callers: Callers, clock: Clock, driver: Driver, measurements: Measurements) -> None:
        super().__init__(shot, clock, driver, np.empty(0, dtype=np.int64), callers.users, measurements)
        self._users = callers.users
        self._duration_ns = round(callers.duration_s * NS_PER_S)
        self._sent = 0

    def _start(self) -> None:
        wait_s = (self._start_ns - self._clock()) / NS_PER_S
        if wait_s > 0:
            self._driver.later(wait_s, self._start)
            return
        for _ in range(self._users):
            self._send_next()

    def _stop(self) -> None:
        pass

    def _ended(self, outcome: Outcome) -> None:
        if outcome == Outcome.CONNECTION:
            self._driver.later(RETRY_AFTER_FAILURE_S, self._send_next)
        else:
            self._send_next()

    def _send_next(self) -> None:
        now_ns = self._clock()
        if not self._sending or now_ns - self._start_ns >= self._duration_ns or self._sent >= MAX_ARRIVALS:
            self.end_sending()
            return
        self._submit(self._sent, now_ns, now_ns)
        self._sent += 1


def make(
    shot: Shot, what: Schedule | Callers, clock: Clock, driver: Driver, measurements: Measurements | None = None
) -> Load:
    """The open loop of a schedule, or the closed loop of callers; rows go to ``measurements`` if it is given."""
    rows = measurements if measurements is not None else Measurements()
    if isinstance(what, Schedule):
        return OpenLoop(shot, what, clock, driver, rows)
    return ClosedLoop(shot, what, clock, driver, rows)
