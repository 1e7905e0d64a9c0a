"""Looping: the event loop that a load has to itself, how Ctrl-C reaches it, and the quiet it needs."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")
Load = Coroutine[object, object, Result]
ENDINGS = (signal.SIGINT, signal.SIGTERM)


def run(load: Load[Result]) -> Result:
    """Run the load to its end on a loop of uvloop's."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)


@contextmanager
def interruptible(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, or a polite request to end, calls ``stop`` while the load runs, if this is a thread that may say so."""
    before = {number: signal.getsignal(number) for number in ENDINGS}
    try:
        for number in ENDINGS:
            loop.add_signal_handler(number, stop)
    except (NotImplementedError, RuntimeError, ValueError):
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            # A loop puts back the interpreter's default, which is not always what was there.
            signal.signal(number, handler)


@contextmanager
def without_collector() -> Iterator[None]:
    """Requests hold no cycles, so the collector finds nothing; its pauses would be measured as the server's."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
