"""The buckets of a queue with very many shapes: what waits is kept, what is idle is forgotten at a bounded price."""

from __future__ import annotations

import pytest

from server.request import InferRequest
from server.scheduling.waiting import KEPT_BUCKETS, WaitingRequests

SHAPES = 10 * KEPT_BUCKETS


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many buckets each search for idle ones looked at."""
    seen: list[int] = []
    forget = WaitingRequests._forget_idle

    def noted(self: WaitingRequests) -> None:
        seen.append(len(self.buckets))
        forget(self)

    monkeypatch.setattr(WaitingRequests, "_forget_idle", noted)
    return seen


def test_many_shapes_that_wait_are_not_searched_for_each_new_one(searched: list[int]) -> None:
    waiting = WaitingRequests(8, (), {})
    for shape in range(SHAPES):
        waiting.push(InferRequest((), 1, lambda _: None), shape, 0)
    assert len(searched) < SHAPES / KEPT_BUCKETS
    assert sum(searched) < SHAPES * SHAPES / KEPT_BUCKETS
    assert (len(waiting.buckets), waiting.rows) == (SHAPES, SHAPES)


def test_shapes_that_nobody_asks_for_any_more_are_forgotten(searched: list[int]) -> None:
    waiting = WaitingRequests(8, (), {})
    waiting.push(InferRequest((), 1, lambda _: None), "waits", 0)
    most = 0
    for shape in range(SHAPES):
        waiting.bucket(shape, 0)
        most = max(most, len(waiting.buckets))
    assert most <= KEPT_BUCKETS + 1
    assert "waits" in {bucket.shape for bucket in waiting.buckets.values()}
    assert len(searched) <= SHAPES / KEPT_BUCKETS + 1
