"""Beside the event loop: bodies so large that reading or writing them would keep everybody else waiting, /ping too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LARGE_BYTES = 1_000_000
"""Bodies, and arrays of answers, from this size on are decoded and encoded on another thread. The slowest codec needs
about 0.1 s for as much; a thread hop is nothing against it."""


def beside(work: Callable[[], Any], then: Callable[[Any], object]) -> None:
    """Do ``work`` on another thread; then call ``then`` on the event loop with what it returned, or what it raised."""
    loop = asyncio.get_running_loop()

    def run() -> None:
        try:
            end = work()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            end = error
        loop.call_soon_threadsafe(then, end)

    loop.run_in_executor(None, run)
