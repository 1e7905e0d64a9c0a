"""The statistics document: counts of requests and rows, and times that add up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from server.observe.metrics import ModelMetrics
from server.observe.steps import StepMetrics
from server.protocols.open_inference.statistics import statistics
from server.request import InferRequest
from server.scheduling.batch import Batch
from tests.unit.server.protocols.open_inference.test_configuration import served

NOW_NS, NOW_S = 10_000_000_000, 1_700_000_000.0
PARTS = ("queue", "compute_input", "compute_infer", "compute_output", "cache_hit")


def answered(metrics: ModelMetrics, rows: int = 1, *, cached: bool = False) -> None:
    """Record a request: each stage takes one nanosecond more than the one before, from 1 for ``receive``."""
    request = InferRequest((), rows, lambda _: None, decoded_ns=3)
    request.held_ns = 4
    request.picked_ns, request.assembled_ns, request.computed_ns, request.scattered_ns = 10, 15, 21, 28
    if cached:
        request.held_ns = 0
        request.assembled_ns = request.computed_ns = request.scattered_ns = 10
        metrics.cached.add(rows, 7)
    metrics.answers["ok"] += 1
    metrics.stages.record(request, 0, 1, 36, NOW_NS - 2_000_000_000)


def ran(rows: int) -> Batch:
    batch = Batch(None, [], rows, picked_ns=100)
    batch.assembled_ns, batch.computed_ns, batch.finished_ns = 110, 140, 145
    return batch


def document_of(metrics: ModelMetrics) -> dict[str, Any]:
    return statistics(replace(served(), metrics=metrics), NOW_NS, NOW_S)


def metrics() -> ModelMetrics:
    return ModelMetrics("m", "3")


def test_before_the_first_request_everything_is_zero() -> None:
    document = document_of(metrics())
    assert (document["last_inference"], document["inference_count"], document["execution_count"]) == (0, 0, 0)
    assert set(map(tuple, (one.values() for one in document["inference_stats"].values()))) == {(0, 0)}
    assert document["batch_stats"] == []


def test_rows_runs_and_requests_are_counted_apart() -> None:
    one = metrics()
    for rows in (3, 5):
        answered(one, rows)
    for rows in (4, 4, 1):
        one.record_run(ran(rows), 0)
    document = document_of(one)
    assert (document["inference_count"], document["execution_count"]) == (8, 3)
    assert document["inference_stats"]["success"]["count"] == 2
    assert [(row["batch_size"], row["compute_infer"]) for row in document["batch_stats"]] == [
        (1, {"count": 1, "ns": 30}),
        (4, {"count": 2, "ns": 60}),
    ]
    assert document["batch_stats"][1]["compute_input"] == {"count": 2, "ns": 20}
    assert document["batch_stats"][1]["compute_output"] == {"count": 2, "ns": 10}
    assert document["last_inference"] == NOW_S * 1_000 - 2_000


@pytest.mark.parametrize("from_cache", [0, 1, 3])
def test_the_parts_of_successful_requests_add_up_to_the_whole(from_cache: int) -> None:
    one = metrics()
    for number in range(4):
        answered(one, rows=2, cached=number < from_cache)
    stats = document_of(one)["inference_stats"]
    assert sum(stats[part]["ns"] for part in PARTS) == stats["success"]["ns"]
    assert stats["success"]["ns"] == 4 * (36 - 1), "neither receiving nor sending is in it"
    assert stats["queue"]["count"] == stats["success"]["count"] == 4
    assert {stats[part]["count"] for part in PARTS[1:4]} == {4 - from_cache}
    assert stats["cache_hit"] == {"count": from_cache, "ns": 7 * from_cache}
    assert document_of(one)["inference_count"] == 2 * (4 - from_cache), "a row from the cache was not inferred"


def test_each_stage_is_in_one_part() -> None:
    one = metrics()
    answered(one)
    stats = document_of(one)["inference_stats"]
    assert {part: stats[part]["ns"] for part in PARTS} == {
        "queue": 7,
        "compute_input": 2 + 5,
        "compute_infer": 6,
        "compute_output": 7 + 8,
        "cache_hit": 0,
    }


def test_failures_and_misses_are_counted_with_their_time() -> None:
    one = metrics()
    answered(one)
    one.fail("malformed_input", received_ns=0)
    one.answers["overloaded"] += 2
    one.cache_outcomes["miss"] = 5
    one.cache_miss_ns = lambda: 50
    stats = document_of(one)["inference_stats"]
    assert stats["fail"]["count"] == 3
    assert stats["fail"]["ns"] > 0
    assert stats["success"]["count"] == 1
    assert stats["cache_miss"] == {"count": 5, "ns": 50}


def test_the_runs_of_a_pipeline_are_those_of_its_last_step() -> None:
    one = metrics()
    first, last = StepMetrics("first"), StepMetrics("last")
    first.record_run(ran(2), 0)
    first.record_run(ran(2), 0)
    last.record_run(ran(4), 0)
    one.steps = [first, last]
    document = document_of(one)
    assert document["execution_count"] == 1
    assert document["batch_stats"] == [], "sizes of one step are not those of the whole"
