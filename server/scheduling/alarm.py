"""The alarm: one timer on the event loop that can be set anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..request import NEVER


class Alarm:
    """Calls back at a time, in nanoseconds of ``clock``. Used on the event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], int], call: Callable[[], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._call = call
        self._timer: asyncio.TimerHandle | None = None
        self.at_ns = NEVER

    def set(self, at_ns: int) -> None:
        """Call back at this time, instead of the time that was set before."""
        self.clear()
        self.at_ns = at_ns
        self._timer = self._loop.call_later(max(at_ns - self._clock(), 0) / 1e9, self._ring)

    def clear(self) -> None:
        """Do not call back."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self.at_ns = None, NEVER

    def _ring(self) -> None:
        self._timer, self.at_ns = None, NEVER
        self._call()
