"""For every unit test of the server: it leaves no thread behind that a later test would see."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

SHARED = ("slipway-", "asyncio_", "AnyIO ")
"""Beginnings of the names of threads that belong to no test: they serve the whole process, or an event loop."""

PATIENCE_S = 10.0


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed in the test is in no cycle."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [one for one in threading.enumerate() if one not in before and not one.name.startswith(SHARED)]
    for one in left:
        one.join(PATIENCE_S)
    assert [one.name for one in left if one.is_alive()] == []
