"""Offloading: bodies are read and written on the event loop, on another thread, or in another process, by their size.

A thread is not enough for large text: one native call that makes millions of numbers holds the interpreter, and with it
the event loop, for seconds. So a codec that handles values one at a time gets a process for a large body.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from ..codecs import Writer
from ..conversion.process import ConversionProcess
from ..tensors import TensorSpec

LARGE_BYTES = 65_536
"""Up to this size everything is done on the event loop. The slowest codec needs about 10 ms for as much."""

BULK_BYTES = 1_000_000
"""The same for codecs that copy whole arrays."""

PROCESS_BYTES = 500_000
"""Above this size values that are handled one at a time go to the process. Native calls on smaller bodies hold the
interpreter for about 15 ms."""

IDLE_S = 60.0
"""Time without work after which the process is ended, to give its memory back."""

Call = Callable[..., Any]
Work = Callable[[Call], Any]
Then = Callable[[Any], object]


class Place(enum.Enum):
    """Where a body is read or written."""

    LOOP = enum.auto()
    THREAD = enum.auto()
    PROCESS = enum.auto()


def place_of(codec: Writer, size_bytes: int, tensors: Sequence[TensorSpec]) -> Place:
    """The place for this codec or writer, more than ``LARGE_BYTES`` and these inputs or outputs."""
    if codec.interpreted or any(one.dtype.numpy.kind == "O" for one in tensors):
        return Place.PROCESS if size_bytes > PROCESS_BYTES else Place.THREAD
    return Place.THREAD if size_bytes > BULK_BYTES else Place.LOOP


def elsewhere(place: Place, work: Work, then: Then) -> None:
    """Run ``work`` on another thread, then call ``then`` on the event loop with its result or its exception.

    ``work`` gets a function ``call(function, *args)``, which for ``Place.PROCESS`` makes the call in the process.
    """
    if place is Place.PROCESS:
        _large.put(asyncio.get_running_loop(), work, then)
    else:
        on_thread(lambda: work(directly), then)


def on_thread(work: Callable[[], Any], then: Then) -> None:
    """Run ``work`` on another thread, then call ``then`` on the event loop with its result or its exception."""
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, _run, loop, work, then)


def directly(function: Callable[..., Any], *args: Any) -> Any:
    """Make a call here."""
    return function(*args)


def _run(loop: asyncio.AbstractEventLoop, work: Callable[[], Any], then: Then) -> None:
    try:
        end = work()
    except BaseException as error:  # noqa: BLE001 - passed to ``then``
        end = error
    try:
        loop.call_soon_threadsafe(then, end)
    except RuntimeError:  # the event loop is closed: the server ended without waiting for this work
        return


class LargeWork:
    """One thread, and its conversion process, for the large bodies of all models, one after the other."""

    def __init__(self, process: ConversionProcess, idle_s: float = IDLE_S) -> None:
        self._process = process
        self._idle_s = idle_s
        self._waiting: SimpleQueue[tuple[asyncio.AbstractEventLoop, Work, Then]] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, loop: asyncio.AbstractEventLoop, work: Work, then: Then) -> None:
        """Let work wait for its turn. Raises RuntimeError if no thread can be started."""
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._go_on, name="slipway-conversion", daemon=True)
                thread.start()
                self._thread = thread  # it lives on: the process ends with the thread that started it
        self._waiting.put((loop, work, then))

    def _go_on(self) -> None:
        while True:
            try:
                loop, work, then = self._waiting.get(timeout=self._idle_s)
            except Empty:
                self._process.close()
                continue
            _run(loop, lambda work=work: work(self._process.call), then)  # type: ignore[misc]
            del work, then  # a waiting thread must not keep the last body


_large = LargeWork(ConversionProcess())
