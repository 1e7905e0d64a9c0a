"""A timer for an event loop with a resolution below the loop's own, which is a millisecond."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1
NS_PER_S = 1_000_000_000


class Timer(Protocol):
    """Calls back once, at or after an absolute instant of ``time.perf_counter_ns``. Setting it again replaces that."""

    def set(self, instant_ns: int) -> None: ...

    def close(self) -> None: ...


class Handle(Protocol):
    """A scheduled callback."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What a timer needs of an event loop: asyncio's, or gevent's with the same methods."""

    def add_reader(self, fd: int, callback: Callable[[], None]) -> object: ...

    def remove_reader(self, fd: int) -> object: ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle: ...

    def call_soon(self, callback: Callable[[], None]) -> Handle: ...


def make(loop: Loop, callback: Callable[[], None]) -> Timer:
    """The kernel's timer where there is one (Linux), else the loop's."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return KernelTimer(loop, callback)
    return LoopTimer(loop, callback)


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``: interval and first expiry, each in seconds and nanoseconds."""

    _fields_ = (
        ("every_s", ctypes.c_long),
        ("every_ns", ctypes.c_long),
        ("at_s", ctypes.c_long),
        ("at_ns", ctypes.c_long),
    )


class KernelTimer:
    """A ``timerfd``, which the loop waits for as for a socket.

    On Linux ``perf_counter_ns`` reads CLOCK_MONOTONIC, so the absolute instants of a schedule are armed as they are:
    no difference is computed, and none of the time between computing and sleeping is lost.
    """

    def __init__(self, loop: Loop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.timerfd_settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._fd: int = self._libc.timerfd_create(CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _TimerSpec(0, 0, 0, 0)
        self._spec_address = ctypes.addressof(self._spec)
        loop.add_reader(self._fd, self._fire)

    def set(self, instant_ns: int) -> None:
        self._spec.at_s, self._spec.at_ns = divmod(instant_ns, NS_PER_S)
        self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, self._spec_address, None)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _fire(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # it was set again after it had expired
        self._callback()


class LoopTimer:
    """The loop's own timer until two milliseconds before the instant, then a check in each turn of the loop."""

    def __init__(self, loop: Loop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._instant_ns = 0
        self._handle: Handle | None = None

    def set(self, instant_ns: int) -> None:
        self._instant_ns = instant_ns
        self.close()
        self._look()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        left_ns = self._instant_ns - time.perf_counter_ns()
        if left_ns > 2_000_000:
            self._handle = self._loop.call_later((left_ns - 2_000_000) / NS_PER_S, self._look)
        elif left_ns > 0:
            self._handle = self._loop.call_soon(self._look)
        else:
            # Through the loop and not directly: the callback sets the next instant, which must not nest.
            self._handle = self._loop.call_soon(self._callback)
