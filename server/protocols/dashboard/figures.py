"""The figures of the dashboard: what it shows of the metric families, by model version and of the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ALONE = ""
"""Stands for the label of a metric that has none but those of its model."""

OF_VERSIONS = {
    "slipway_requests_total": ("requests", "outcome"),
    "slipway_stage_seconds_sum": ("stage_s", "stage"),
    "slipway_request_seconds_sum": ("request_s", ALONE),
    "slipway_request_seconds_count": ("timed", ALONE),
    "slipway_request_seconds_bucket": ("latency", "le"),
    "slipway_batch_rows_bucket": ("batches", "le"),
    "slipway_batch_rows_sum": ("batch_rows", ALONE),
    "slipway_queue_rows": ("queue_rows", ALONE),
    "slipway_backlog_seconds": ("wait_s", ALONE),
    "slipway_model_memory_bytes": ("memory_bytes", ALONE),
    "slipway_cache_requests_total": ("cache", "outcome"),
    "slipway_cache_bytes": ("cache_bytes", ALONE),
    "slipway_run_seconds_total": ("run_s", ALONE),
    "slipway_instances": ("instances", ALONE),
    "slipway_compute_threads": ("threads", ALONE),
}
"""Sample of a model version to its field, and the label that its values are told apart by. Counters never fall."""

OF_SERVER = {
    "slipway_refused_total": ("refused", "code"),
    "slipway_connections": ("connections", ALONE),
    "slipway_refused_connections_total": ("refused_connections", ALONE),
    "slipway_received_bytes": ("received_bytes", ALONE),
    "slipway_cores": ("cores", ALONE),
    "process_resident_memory_bytes": ("resident_bytes", ALONE),
    "process_cpu_seconds_total": ("cpu_s", ALONE),
    "process_start_time_seconds": ("started_s", ALONE),
}
GPU_MEMORY, GPU_BUSY = "slipway_gpu_memory_bytes", "slipway_gpu_busy_ratio"


def figures(families: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """``{"server": {...}, "gpus": [...], "versions": [{"model": ..., "version": ..., ...}]}``.

    ``families`` as :meth:`Exposition.plain` gives them. A field is a number, or an object of numbers by the value of
    its label. May run on any thread.
    """
    server: dict[str, Any] = {}
    versions: dict[tuple[str, str], dict[str, Any]] = {}
    gpus: dict[str, dict[str, Any]] = {}
    for family in families:
        for name, labels, value in family["samples"]:
            if name in OF_VERSIONS:
                key = labels["model"], labels["version"]
                row = versions.get(key)
                if row is None:
                    row = versions[key] = {"model": key[0], "version": key[1]}
                _put(row, OF_VERSIONS[name], labels, value)
            elif name in OF_SERVER:
                _put(server, OF_SERVER[name], labels, value)
            elif name in (GPU_MEMORY, GPU_BUSY):
                _put_gpu(gpus, name, labels, value)
    return {"server": server, "gpus": list(gpus.values()), "versions": list(versions.values())}


def _put(row: dict[str, Any], where: tuple[str, str], labels: dict[str, str], value: float) -> None:
    field, label = where
    if label == ALONE:
        row[field] = value
    else:
        row.setdefault(field, {})[labels[label]] = value


def _put_gpu(gpus: dict[str, dict[str, Any]], name: str, labels: dict[str, str], value: float) -> None:
    row = gpus.setdefault(labels["uuid"], {"index": labels["gpu"]})
    if name == GPU_BUSY:
        row["busy"] = value
    else:
        row["name"] = labels["name"]
        row[f"{labels['state']}_bytes"] = value
