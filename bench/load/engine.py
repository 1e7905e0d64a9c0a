"""The fast engine: runs a load on asyncio, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from . import event_loop, loops, timer
from .arrivals import NS_PER_S
from .callers import Callers
from .connection import Clock, Connection
from .loops import HOUSEKEEPING_S, LEAD_NS, Load, Pending, Result
from .pool import Pool
from .raw_run import RawRun, Watch
from .schedule import Schedule
from .shot import Shot

Gate = Callable[[], Awaitable[int]]
"""Awaited when all connections are open; gives the start instant, for processes that start together."""


def run(shot: Shot, what: Schedule | Callers, watch: Watch | None = None) -> RawRun:
    """Send the load on an event loop of its own (uvloop). Ctrl-C ends it early with the rows so far."""
    return event_loop.run(send(shot, what, watch))


async def send(
    shot: Shot,
    what: Schedule | Callers,
    watch: Watch | None = None,
    clock: Clock = time.perf_counter_ns,
    gate: Gate | None = None,
) -> RawRun:
    """Send a schedule (open loop), or as many callers as given (closed loop), on the running event loop."""
    driver = _AsyncioDriver(clock)
    return await driver.drive(loops.make(shot, what, clock, driver), watch, gate)


class _AsyncioDriver:
    """A ``loops.Driver`` on the running event loop; drives one load."""

    def __init__(self, clock: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._over = asyncio.Event()
        self._changed = asyncio.Event()
        self._dialling: set[asyncio.Task[None]] = set()

    def timer(self, callback: Callable[[], None]) -> timer.Timer:
        return timer.make(self._loop, callback)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._loop.call_later(seconds, callback)

    def in_thread(self, work: Callable[[], Result]) -> Pending[Result]:
        return self._loop.run_in_executor(None, work)

    def changed(self) -> None:
        self._changed.set()

    def end(self) -> None:
        self._over.set()

    def dial(self, pool: Pool, connection: Connection) -> None:
        task = self._loop.create_task(self._connect(pool, connection))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _connect(self, pool: Pool, connection: Connection) -> None:
        target = pool.target
        try:
            async with asyncio.timeout(pool.timeout_ns / NS_PER_S):
                await self._loop.create_connection(lambda: connection, target.host, target.port, ssl=pool.tls)
        except (OSError, asyncio.CancelledError) as error:  # TimeoutError is an OSError
            if connection.usable:
                # It opened in the turn in which it was given up. uvloop closes it then and tells nobody.
                connection.connection_lost(None)
            elif isinstance(error, OSError):
                pool.refused(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def drive(self, load: Load, watch: Watch | None, gate: Gate | None) -> RawRun:
        """Run the load from its first connection to its last."""
        with event_loop.interruptible(self._loop, load.interrupt), event_loop.without_collector():
            try:
                load.pool.open(load.warm_connections)
                while load.pool.dialling:
                    await self._change()
                load.begin(await gate() if gate is not None else self._clock() + LEAD_NS)
                while not self._over.is_set():
                    try:
                        async with asyncio.timeout(HOUSEKEEPING_S):
                            await self._over.wait()
                    except TimeoutError:
                        load.look(watch)
            finally:
                load.end_sending()
                await self._close(load.pool)
        return load.result()

    async def _close(self, pool: Pool) -> None:
        pool.forget()
        for task in self._dialling:
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        pool.abort()
        while pool.connections:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
