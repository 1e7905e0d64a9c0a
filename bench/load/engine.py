"""The fast engine: the loops on asyncio, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from . import event_loop as looping
from . import loops, timer
from .connection import Clock, Connection
from .loops import HOUSEKEEPING_S, LEAD_NS, Load, Pending, RawRun, Result, Shot, Snapshot, Watch
from .measurements import Measurements
from .pool import Ended, Pool
from .schedule import Schedule

__all__ = ["Gate", "RawRun", "Shot", "Snapshot", "Watch", "closed_loop", "open_loop", "run_closed", "run_open"]
NS_PER_S = 1_000_000_000
Gate = Callable[[], Awaitable[int]]
"""Awaited when all connections are open; gives the instant at which the load starts, for those who start together."""


def run_open(shot: Shot, schedule: Schedule, watch: Watch | None = None) -> RawRun:
    """Send the schedule on a loop of its own (uvloop); Ctrl-C ends it early with what there is."""
    return looping.run(open_loop(shot, schedule, watch))


def run_closed(shot: Shot, users: int, duration_s: float, watch: Watch | None = None) -> RawRun:
    """Like ``run_open``, for ``closed_loop``."""
    return looping.run(closed_loop(shot, users, duration_s, watch))


async def open_loop(
    shot: Shot,
    schedule: Schedule,
    watch: Watch | None = None,
    clock: Clock = time.perf_counter_ns,
    gate: Gate | None = None,
) -> RawRun:
    """Send each request at its intended instant, whether or not earlier ones were answered."""
    reactor = _Asyncio()
    load = loops.OpenLoop(shot, schedule, clock, reactor)
    return await reactor.drive(load, watch, clock, gate, loops.warm_connections(schedule))


async def closed_loop(
    shot: Shot,
    users: int,
    duration_s: float,
    watch: Watch | None = None,
    clock: Clock = time.perf_counter_ns,
    gate: Gate | None = None,
) -> RawRun:
    """``users`` callers, each sending when its last reply has come: a slow server is asked less, and looks better.

    A request is intended at the instant at which its caller gets to send it: there is no schedule to be late for.
    """
    reactor = _Asyncio()
    load = loops.ClosedLoop(shot, users, duration_s, clock, reactor)
    return await reactor.drive(load, watch, clock, gate, users)


class _Asyncio:
    """A ``loops.Reactor`` on the running event loop; drives one load."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._pool: _AsyncioPool | None = None

    def pool(self, shot: Shot, clock: Clock, measurements: Measurements, ended: Ended) -> _AsyncioPool:
        self._pool = _AsyncioPool(
            shot.target,
            shot.carrier,
            max_connections=shot.max_connections,
            timeout_ns=round(shot.timeout_s * NS_PER_S),
            clock=clock,
            measurements=measurements,
            ended=ended,
        )
        return self._pool

    def timer(self, callback: Callable[[], None]) -> timer.Timer:
        return timer.make(self._loop, callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._loop.call_later(seconds, callback)

    def in_thread(self, work: Callable[[], Result]) -> Pending[Result]:
        return self._loop.run_in_executor(None, work)

    def end(self) -> None:
        self._over.set()

    async def drive(self, load: Load, watch: Watch | None, clock: Clock, gate: Gate | None, connections: int) -> RawRun:
        """From the first connection to the last."""
        pool = self._pool
        assert pool is not None
        with looping.interruptible(self._loop, load.interrupt), looping.without_collector():
            try:
                await pool.open(connections)
                load.begin(await gate() if gate is not None else clock() + LEAD_NS)
                while not self._over.is_set():
                    try:
                        async with asyncio.timeout(HOUSEKEEPING_S):
                            await self._over.wait()
                    except TimeoutError:
                        load.look(watch)
            finally:
                load.end_sending()
                await pool.close()
        return load.result()


class _AsyncioPool(Pool):
    """Its connections are asyncio's transports."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._opening: set[asyncio.Task[None]] = set()
        self._all_closed = asyncio.Event()

    async def open(self, count: int) -> None:
        """Open up to ``count`` connections ahead of the load, so that its start is not a burst of handshakes."""
        for _ in range(min(count, self._max_connections)):
            self._grow()
        if self._opening:
            await asyncio.wait(self._opening)

    async def close(self) -> None:
        """Drop every connection and attempt."""
        self.forget()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.abort()
        if self._connections:
            await self._all_closed.wait()

    def opened(self, connection: Connection) -> None:
        self._all_closed.clear()
        super().opened(connection)

    def closed(self, connection: Connection) -> None:
        super().closed(connection)
        if not self._connections:
            self._all_closed.set()

    def _dial(self, connection: Connection) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, connection: Connection) -> None:
        target = self._target
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_ns / NS_PER_S):
                await loop.create_connection(lambda: connection, target.host, target.port, ssl=self._tls)
        except OSError as error:  # TimeoutError is one
            self.refused(connection, error)
