"""The statistics document of a model: requests, rows, runs and their times since it was loaded.

Field names are those of Triton's message ``ModelStatistics`` as JSON, so that gRPC makes the message of it.

The times of successful requests add up: ``success`` is the sum of ``queue``, ``compute_input`` (decoding and
assembling), ``compute_infer``, ``compute_output`` (handing out and encoding) and ``cache_hit``. Receiving and sending
are the network's and are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter_ns, time
from typing import Any

from ...cache import MISS
from ...models import ServedModel
from ...observe.batch_times import BatchTimes
from ...observe.metrics import ModelMetrics


def statistics(model: ServedModel, now_ns: int, now_s: float) -> dict[str, Any]:
    """The statistics of one version. ``now_ns`` is ``perf_counter_ns`` now, ``now_s`` seconds of the Unix epoch."""
    metrics = model.metrics
    totals, last_ns = metrics.stages.totals(), metrics.stages.last_ns
    runs = _runs(metrics)
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": int(now_s * 1e3 - (now_ns - last_ns) / 1e6) if last_ns else 0,
        "inference_count": totals.rows + metrics.streamed_rows - metrics.cached.rows,
        "execution_count": sum(one.runs for one in runs.values()),
        "inference_stats": _requests(metrics),
        "response_stats": {},
        "batch_stats": [_batch(rows, one) for rows, one in sorted(runs.items())] if not metrics.steps else [],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": metrics.memory_bytes}],
    }


def now(model: ServedModel) -> dict[str, Any]:
    """The statistics of one version at this moment."""
    return statistics(model, perf_counter_ns(), time())


def added(ours: dict[str, Any], others: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """The statistics of one version in several processes; None: a process does not have it. The latest
    ``last_inference`` counts, everything else is added."""
    for theirs in others:
        if theirs is None:
            continue
        last = max(ours["last_inference"], theirs["last_inference"])
        batches = {one["batch_size"]: one for one in ours["batch_stats"]}
        for row in theirs["batch_stats"]:
            size = row["batch_size"]
            batches[size] = {**_sum(batches[size], row), "batch_size": size} if size in batches else row
        memory = [{**one, "byte_size": one["byte_size"]} for one in ours["memory_usage"]]
        for one, more in zip(memory, theirs["memory_usage"], strict=True):
            one["byte_size"] += more["byte_size"]
        together = {"batch_stats": [batches[size] for size in sorted(batches)], "memory_usage": memory}
        ours = {**_sum(ours, theirs), **together, "last_inference": last}
    return ours


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return {key: _sum(value, other[key]) for key, value in one.items()}
    return one + other if isinstance(one, int) else one


def _runs(metrics: ModelMetrics) -> dict[int, BatchTimes]:
    """The runs by their rows: of the model, or of the last step of a pipeline."""
    return metrics.steps[-1].batches if metrics.steps else metrics.batches


def _requests(metrics: ModelMetrics) -> dict[str, dict[str, int]]:
    """Requests and their times by outcome and part. Responses from the cache have no part but queue and cache_hit."""
    totals, cached = metrics.stages.totals(), metrics.cached
    spent, computed = totals.ns, totals.requests - cached.requests
    outcomes = metrics.cache_outcomes
    parts = {
        "queue": (totals.requests, spent["queue_busy"] + spent["queue_timer"] - cached.ns),
        "compute_input": (computed, spent["decode"] + spent["assemble"]),
        "compute_infer": (computed, spent["compute"]),
        "compute_output": (computed, spent["scatter"] + spent["encode"]),
        "cache_hit": (cached.requests, cached.ns),
    }
    failed = sum(metrics.answers.values()) - metrics.answers["ok"]
    rows = {
        "success": (metrics.answers["ok"], sum(ns for _, ns in parts.values())),
        "fail": (failed, metrics.failed_ns),
        **parts,
        "cache_miss": (outcomes[MISS], metrics.cache_miss_ns()),
    }
    return {name: _figure(*row) for name, row in rows.items()}


def _batch(rows: int, one: BatchTimes) -> dict[str, Any]:
    return {
        "batch_size": rows,
        "compute_input": _figure(one.runs, one.input_ns),
        "compute_infer": _figure(one.runs, one.infer_ns),
        "compute_output": _figure(one.runs, one.output_ns),
    }


def _figure(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
