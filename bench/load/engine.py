"""The engine: an open loop that keeps its schedule whatever the server does, and a closed loop of waiting users."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import timer
from .connection import Clock
from .measurements import Failure, Measurements, Outcome, Request
from .pool import Pool
from .schedule import MAX_ARRIVALS, NS_PER_S, Schedule
from .server_timing import Carrier
from .target import Target

HOUSEKEEPING_S = 0.02
LEAD_NS = 20_000_000
# Requests sent without looking at replies: a generator that only catches up would read every reply late.
MAX_BURST = 32
# A refused connection must not become a busy loop of refused connections.
RETRY_AFTER_FAILURE_S = 0.05


@dataclass(frozen=True, slots=True)
class Shot:
    """Where to and with what: everything about a load except its timing. ``timeout_s`` is from the intended instant."""

    target: Target
    wire: bytes
    carrier: Carrier
    timeout_s: float
    max_connections: int


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

    ``scheduled_ns``: int64, the intended instants that a complete run sends (empty for a closed loop).
    ``generator_cpu`` is the share of one core, 1.0 = all of it, while requests were being sent. ``abandoned``: requests
    in flight when Ctrl-C came; nothing more is known of them. ``start_ns``: when the load started, by perf_counter.
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


def run_open(shot: Shot, schedule: Schedule, watch: Watch | None = None) -> RawRun:
    """Send the schedule on a loop of its own (uvloop); Ctrl-C ends it early with what there is."""
    return _run(open_loop(shot, schedule, watch))


def run_closed(shot: Shot, users: int, duration_s: float, watch: Watch | None = None) -> RawRun:
    """Like ``run_open``, for ``closed_loop``."""
    return _run(closed_loop(shot, users, duration_s, watch))


async def open_loop(
    shot: Shot, schedule: Schedule, watch: Watch | None = None, clock: Clock = time.perf_counter_ns
) -> RawRun:
    """Send each request at its intended instant, whether or not earlier ones were answered."""
    load = _OpenLoop(shot, schedule, clock)
    # About the connections in use at 20 ms a reply; more are opened as they are needed.
    return await load.run(watch, warm_connections=max(4, round(schedule.rate_per_s * 0.02)))


async def closed_loop(
    shot: Shot,
    users: int,
    duration_s: float,
    watch: Watch | None = None,
    clock: Clock = time.perf_counter_ns,
) -> RawRun:
    """``users`` callers, each sending when its last reply has come: a slow server is asked less, and looks better.

    A request is intended at the instant at which its caller gets to send it: there is no schedule to be late for.
    """
    return await _ClosedLoop(shot, users, duration_s, clock).run(watch, warm_connections=users)


class _Load:
    """What both loops share: the pool, housekeeping, the end. ``_start`` and ``_ended`` are the loop's own."""

    def __init__(self, shot: Shot, clock: Clock, scheduled_ns: NDArray[np.int64]) -> None:
        self._clock = clock
        self._scheduled_ns = scheduled_ns
        self._measurements = Measurements()
        self._pool = Pool(
            shot.target,
            shot.wire,
            shot.carrier,
            max_connections=shot.max_connections,
            timeout_ns=round(shot.timeout_s * NS_PER_S),
            clock=clock,
            measurements=self._measurements,
            ended=self._ended,
        )
        self._start_ns = 0
        self._sending = True
        self._cpu_s = 0.0
        self._wall_s = 0.0
        self._interrupted = False
        self._over = asyncio.Event()

    def _start(self) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError

    def _ended(self, _outcome: Outcome) -> None:
        raise NotImplementedError

    async def run(self, watch: Watch | None, warm_connections: int) -> RawRun:
        loop = asyncio.get_running_loop()
        with _interruptible(loop, self._interrupt), _without_collector():
            try:
                await self._pool.open(warm_connections)
                self._start_ns = self._measurements.start_ns = self._clock() + LEAD_NS
                self._cpu_s, self._wall_s = time.process_time(), time.perf_counter()
                if not self._interrupted:
                    self._start()
                while not self._over.is_set():
                    await self._housekeeping(watch)
            finally:
                self._end_sending()
                await self._pool.close()
        return RawRun(
            columns=self._measurements.columns(),
            failures=self._measurements.failures,
            scheduled_ns=self._scheduled_ns,
            generator_cpu=self._cpu_s / self._wall_s if self._wall_s else 0.0,
            peak_in_flight=self._pool.peak_in_flight,
            cap_hits=self._pool.cap_hits,
            exhausted=self._pool.exhausted,
            interrupted=self._interrupted,
            abandoned=self._pool.in_flight,
            start_ns=self._start_ns,
        )

    async def _housekeeping(self, watch: Watch | None) -> None:
        try:
            async with asyncio.timeout(HOUSEKEEPING_S):
                await self._over.wait()
        except TimeoutError:
            now_ns = self._clock()
            self._pool.expire(now_ns)
            if watch is not None:
                elapsed_s = (now_ns - self._start_ns) / NS_PER_S
                rows = self._measurements
                watch(Snapshot(elapsed_s, len(rows), rows.failed, self._pool.in_flight))

    def _end_sending(self) -> None:
        """Nothing is sent after this; the generator's own load is what it was until here."""
        if self._sending:
            self._sending = False
            self._stop()
            self._cpu_s = time.process_time() - self._cpu_s
            self._wall_s = time.perf_counter() - self._wall_s
        if self._pool.in_flight == 0:
            self._over.set()

    def _interrupt(self) -> None:
        self._interrupted = True
        self._end_sending()
        self._over.set()


class _OpenLoop(_Load):
    def __init__(self, shot: Shot, schedule: Schedule, clock: Clock) -> None:
        super().__init__(shot, clock, schedule.offsets_ns)
        self._due = memoryview(schedule.offsets_ns)  # type: ignore[arg-type]  # an array is a buffer
        self._next = 0
        self._timer = timer.make(asyncio.get_running_loop(), self._send_due)

    def _start(self) -> None:
        self._send_due()

    def _stop(self) -> None:
        self._timer.close()

    def _ended(self, _outcome: Outcome) -> None:
        if not self._sending and self._pool.in_flight == 0:
            self._over.set()

    def _send_due(self) -> None:
        """Everything that is due now, then the timer for the next; the schedule itself never moves."""
        due, count, start_ns = self._due, len(self._due), self._start_ns
        burst_end = self._next + MAX_BURST
        now_ns = self._clock()
        while self._next < count and self._next < burst_end and start_ns + due[self._next] <= now_ns:
            self._pool.submit(Request(self._next, start_ns + due[self._next], now_ns))
            self._next += 1
            now_ns = self._clock()
        if self._next < count:
            self._timer.set(start_ns + due[self._next])
        else:
            self._end_sending()


class _ClosedLoop(_Load):
    def __init__(self, shot: Shot, users: int, duration_s: float, clock: Clock) -> None:
        super().__init__(shot, clock, np.empty(0, dtype=np.int64))
        self._users = users
        self._duration_ns = round(duration_s * NS_PER_S)
        self._sent = 0

    def _start(self) -> None:
        self._start_ns = self._measurements.start_ns = self._clock()
        for _ in range(self._users):
            self._send_next()

    def _stop(self) -> None:
        pass

    def _ended(self, _outcome: Outcome) -> None:
        if _outcome == Outcome.CONNECTION:
            asyncio.get_running_loop().call_later(RETRY_AFTER_FAILURE_S, self._send_next)
        else:
            self._send_next()

    def _send_next(self) -> None:
        now_ns = self._clock()
        if not self._sending or now_ns - self._start_ns >= self._duration_ns or self._sent >= MAX_ARRIVALS:
            self._end_sending()
            return
        self._pool.submit(Request(self._sent, now_ns, now_ns))
        self._sent += 1


def _run(load: object) -> RawRun:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)  # type: ignore[arg-type]


@contextmanager
def _interruptible(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``stop`` while the load runs, if this is a thread that may say so."""
    try:
        loop.add_signal_handler(signal.SIGINT, stop)
    except (NotImplementedError, RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Requests hold no cycles, so the collector finds nothing; its pauses would be measured as the server's."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
