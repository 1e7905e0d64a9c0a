"""Calls that are made later on the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def later(delay_s: float, call: Callable[[], None]) -> None:
    """Call later on the running event loop."""
    asyncio.get_running_loop().call_later(delay_s, call)
