"""The garbage collector: rare searches while the server serves alone, Python's own beside the code of users."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from server.system import collector


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def searches_for(live: int) -> int:
    """Searches of any generation while so many objects come to live at once, as requests that wait do."""
    gc.collect()
    before = _searches()
    kept = [[at] for at in range(live)]
    assert len(kept) == live
    return _searches() - before


def _searches() -> int:
    return sum(int(one["collections"]) for one in gc.get_stats())


def test_requests_that_wait_together_cause_few_searches_unless_users_code_runs_too() -> None:
    collector.search_rarely()
    rare = searches_for(40_000)
    collector.search_as_python_does()
    assert gc.get_threshold() == collector.PYTHON
    assert rare <= 40_000 / collector.SERVING[0] + 1 < searches_for(40_000) / 4
