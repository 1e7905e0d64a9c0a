"""The threads that load models: each piece of a load runs in a thread of its own, for a limited time.

Native code cannot be interrupted. The thread of a load that hangs is given up: it is counted and named until it ends,
and what it returns then is freed. It holds up neither other loads nor the end of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from ..errors import LoadTimedOut, NotReady
from ..system.threads import interrupt

log = logging.getLogger("slipway.models")

TURN_S = 10.0
"""How long a load has the machine to itself: measured memory is true then, and neighbours keep their cores. After that
the next load begins beside it."""

MOST_HANGING = 16
"""Threads of loads that may hang at once. While so many hang, no load begins."""

STOPPING = "the server is stopping"

Done = TypeVar("Done")


class LoadThreads:
    """Runs the pieces of loads. Everything but the threads themselves runs on the event loop."""

    def __init__(
        self, limit_s: float = 0.0, turn_s: float = TURN_S, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """``limit_s``: the longest load; 0: no limit. ``turn_s``: as :data:`TURN_S`. ``sleep`` waits for the limit."""
        self._sleep = sleep
        self.limit_s = limit_s or None
        self.timed_out = 0
        self._turn_s = turn_s
        self._turn = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._hanging: dict[threading.Thread, str] = {}

    @property
    def hanging(self) -> list[str]:
        """What each thread that was given up and has not ended was loading."""
        return list(self._hanging.values())

    def families(self) -> Iterator[Any]:
        """The metric families of the loads."""
        yield CounterMetricFamily(
            "slipway_loads_timed_out", "Loads that did not end within --load-timeout-s", value=self.timed_out
        )
        hanging = GaugeMetricFamily(
            "slipway_hanging_loads", "Threads of loads that were given up and have not ended", labels=("model",)
        )
        names = self.hanging
        for name in sorted(set(names)):
            hanging.add_metric((name,), names.count(name))
        yield hanging

    def stop(self) -> None:
        """Give up the loads under way, and begin no other: their callers get NotReady."""
        self._stopping.set()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the end of the load before, or of its turn. Raises NotReady when stopped."""
        await self._turn.acquire()
        held = [self._turn]
        timer = asyncio.get_running_loop().call_later(self._turn_s, lambda: held.pop().release())
        try:
            self._require_running()
            yield
        finally:
            timer.cancel()
            if held:
                held.pop().release()

    async def run(
        self,
        name: str,
        work: Callable[[], Done],
        free: Callable[[Done], None] | None = None,
        until_s: float | None = None,
    ) -> Done:
        """Run ``work`` in a thread and return its result, or raise its error.

        ``name``: what is being loaded. ``free`` is called in the thread with a result that comes too late. ``until_s``:
        time of the event loop at which the work is given up; None: after the limit. Raises LoadTimedOut then, and
        NotReady when stopped, or while too many threads hang.
        """
        self._require_running()
        loop = asyncio.get_running_loop()
        piece = _Piece(name, work, free, loop, self._hanging)
        if until_s is None and self.limit_s is not None:
            until_s = loop.time() + self.limit_s
        piece.thread.start()
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._stopping.wait())]
        if until_s is not None:
            ends.append(asyncio.ensure_future(self._sleep(max(until_s - loop.time(), 0.0))))
        try:
            await asyncio.wait((piece.ended, *ends), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in ends:
                one.cancel()
            given_up = piece.give_up()
        if not given_up:
            await piece.ended
            return piece.take()
        if self._stopping.is_set():
            raise NotReady(STOPPING)
        self.timed_out += 1
        log.error(
            "a load does not end; its thread is given up model=%s limit_s=%g hanging=%d",
            *(name, self.limit_s, len(self._hanging)),
        )
        raise LoadTimedOut(
            f"{name!r} did not load within {self.limit_s:g} s: look for what hangs (a script, a network drive), or "
            "raise --load-timeout-s; where its thread does not end, its memory comes back when the server is restarted"
        )

    def _require_running(self) -> None:
        if self._stopping.is_set():
            raise NotReady(STOPPING)
        if len(self._hanging) >= MOST_HANGING:
            raise NotReady(f"the threads of {MOST_HANGING} loads hang: restart the server")


class _Piece(Generic[Done]):
    """One piece of work in its thread. ``ended`` is set on the event loop, unless it was given up before.

    :meth:`take` hands over what the work has returned or raised. The thread and ``ended``, which may outlive a model
    that is unloaded soon, hold it no longer.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Done],
        free: Callable[[Done], None] | None,
        loop: asyncio.AbstractEventLoop,
        hanging: dict[threading.Thread, str],
    ) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self.thread = threading.Thread(target=self._serve, name=f"load-{name}", daemon=True)
        self._name = name
        self._work = work
        self._free = free
        self._loop = loop
        self._hanging = hanging
        self._lock = threading.Lock()
        self._over = False
        self._result: Done | None = None
        self._error: BaseException | None = None

    def take(self) -> Done:
        """What the work has returned, once; raises what it has raised."""
        result, error = self._result, self._error
        self._result = self._error = None
        if error is None:
            return result  # type: ignore[return-value]  # None is a result, too
        try:
            raise error
        finally:
            del error  # this frame is in its traceback

    def give_up(self) -> bool:
        """Wait no longer. Returns False when the work has ended."""
        with self._lock:
            if self._over:
                return False
            self._hanging[self.thread] = self._name
        interrupt(self.thread)
        return True

    def _serve(self) -> None:
        try:
            self._result = self._work()
        except StopIteration as raised:  # a future cannot hold it
            self._error = RuntimeError(f"the load raised {raised!r}")
        except BaseException as raised:  # noqa: BLE001 - raised again where the load is awaited
            self._error = raised
        with self._lock:
            self._over = True
            late = self._hanging.pop(self.thread, None) is not None
        if late:
            log.warning("a load that was given up has ended model=%s", self._name)
            if self._error is None and self._free is not None:
                self._free(self.take())
            return
        with contextlib.suppress(RuntimeError):  # the event loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        if not self.ended.cancelled():
            self.ended.set_result(None)
