"""What a process does to itself: collections and a late loop, heard of and counted, on clocks that are set by hand."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from server.observe.process import INTERVAL_S, PAUSE_NS, Collections, LoopLag, Pauses
from tests.fakes import FakeLoop

MS = 1_000_000


def told(families: Any) -> dict[str, float]:
    """Sample name, with its bound if it has one, to value."""
    return {
        name + labels.get("le", ""): value
        for family in families
        for name, labels, value in ((one.name, one.labels, one.value) for one in family.samples)
    }


def test_the_pause_of_a_collection_is_from_its_start_to_its_stop() -> None:
    clock = iter([10 * MS, 13 * MS, 20 * MS, 20 * MS + 20_000])
    collections = Collections(lambda: next(clock))
    for _ in range(2):
        collections.on_collection("start", {})
        collections.on_collection("stop", {})
    found = told(collections.families())
    assert found["slipway_gc_pause_seconds_count"] == 2
    assert found["slipway_gc_pause_seconds_sum"] == pytest.approx(3.02e-3)
    assert found["slipway_gc_pause_seconds_bucket2.5e-05"] == 1
    assert found["slipway_gc_pause_seconds_bucket0.0025"] == 1
    assert found["slipway_gc_pause_seconds_bucket0.005"] == 2


def test_a_stop_whose_start_nobody_heard_is_no_pause() -> None:
    collections = Collections(lambda: 5)
    collections.on_collection("stop", {})
    assert told(collections.families())["slipway_gc_pause_seconds_count"] == 0


def test_the_real_collector_is_heard_once_however_often_it_is_started() -> None:
    collections = Collections()
    gc.disable()  # a collection of its own would be heard, too
    collections.start()
    collections.start()
    try:
        before = told(collections.families())["slipway_gc_pause_seconds_count"]
        gc.collect()
        assert told(collections.families())["slipway_gc_pause_seconds_count"] == before + 1
    finally:
        collections.stop()
        gc.enable()
    assert collections.on_collection not in gc.callbacks


def test_a_loop_that_is_held_up_is_late_by_what_held_it_up() -> None:
    loop = FakeLoop()
    lag = LoopLag(loop, loop.clock)
    lag.start()
    for late_ms in (0, 30, 1):
        loop.advance(int(INTERVAL_S * 1e9) + late_ms * MS)
        loop.turn()
    found = told(lag.families())
    assert found["slipway_loop_lag_seconds_count"] == 3
    assert found["slipway_loop_lag_seconds_sum"] == pytest.approx(0.029)  # its timers count in milliseconds
    assert found["slipway_loop_lag_seconds_bucket1e-05"] == 2


def test_the_newest_long_pause_of_each_kind_is_told_with_its_end() -> None:
    times = iter([100.0, 101.0, 102.0])
    pauses = Pauses(lambda: next(times))
    clock = iter([1, 1 + PAUSE_NS, 1, 1 + 3 * PAUSE_NS, 1, PAUSE_NS])
    collections = Collections(lambda: next(clock), pauses)
    assert list(told(pauses.families())) == []
    for _ in range(3):
        collections.on_collection("start", {})
        collections.on_collection("stop", {})
    found = {(one.name, one.labels["kind"]): one.value for family in pauses.families() for one in family.samples}
    assert found == {
        ("slipway_last_pause_timestamp_seconds", "gc"): 101.0,
        ("slipway_last_pause_seconds", "gc"): pytest.approx(0.03),
    }
