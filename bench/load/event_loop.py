"""The event loop of a load: uvloop, Ctrl-C as a request to end, and no garbage collector."""

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
    """Run the load to its end on a new uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(load)


@contextmanager
def interruptible(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call ``stop`` while the block runs; nothing changes outside the main thread."""
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
            # asyncio restores the interpreter's default, which need not be the handler that was there before.
            signal.signal(number, handler)


@contextmanager
def without_collector() -> Iterator[None]:
    """Disable the garbage collector: its pauses would count as latency, and requests hold no cycles to collect."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
