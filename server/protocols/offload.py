"""Offloading: large bodies are decoded and encoded on another thread, so that the event loop keeps serving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LARGE_BYTES = 1_000_000
"""Bodies and outputs from this size on are offloaded. The slowest codec needs about 0.1 s for as much."""


def on_thread(work: Callable[[], Any], then: Callable[[Any], object]) -> None:
    """Run ``work`` on another thread, then call ``then`` on the event loop with its result or its exception."""
    loop = asyncio.get_running_loop()

    def run() -> None:
        try:
            end = work()
        except BaseException as error:  # noqa: BLE001 - passed to ``then``
            end = error
        loop.call_soon_threadsafe(then, end)

    loop.run_in_executor(None, run)
