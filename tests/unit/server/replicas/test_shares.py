"""Shares: memory is divided by the number of processes, limits of one request are not."""

from __future__ import annotations

import dataclasses

from server.replicas.shares import share_of
from server.settings.options import Settings

DIVIDED = {"memory_budget_mb", "max_receive_mb", "max_queue_mb", "cache_mb", "gpu_memory_mb"}


def test_memory_is_divided_and_nothing_else_changes() -> None:
    whole = Settings(processes=4, memory_budget_mb=400, cache_mb=40, gpu_memory_mb=100, max_connections=100)
    share = share_of(whole)
    for name in DIVIDED:
        assert getattr(share, name) == getattr(whole, name) / 4
    rest = {name: value for name, value in dataclasses.asdict(share).items() if name not in DIVIDED}
    assert rest == {name: value for name, value in dataclasses.asdict(whole).items() if name not in DIVIDED}
