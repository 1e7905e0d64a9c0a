"""The merging of metrics: the families of several processes as those of one server.

Counters and histograms are added up. So are gauges that count something that each process has of its own. Of other
gauges the largest value counts, of readiness the smallest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Family = dict[str, Any]
"""``name``, ``type``, ``text`` and ``samples``: rows of name, labels and value. ``exemplars`` of some samples: rows of
name, labels, and the exemplar's labels, value and time. It can be written as JSON."""

ADDED = ("counter", "histogram", "summary")

ADDED_GAUGES = frozenset(
    (
        *("slipway_queue_rows", "slipway_instances", "slipway_compute_threads", "slipway_step_instances"),
        "slipway_step_queue_rows",
        *("slipway_step_compute_threads", "slipway_model_memory_bytes", "slipway_cache_bytes", "slipway_connections"),
        *("slipway_received_bytes", "slipway_received_peak_bytes", "slipway_script_worker_memory_bytes"),
        *("slipway_hanging_loads", "slipway_python_threads"),
        *("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"),
    )
)
LEAST_GAUGES = frozenset(("slipway_ready", "process_start_time_seconds", "process_max_fds"))

OF_EACH = {
    "process_cpu_seconds_total": ("slipway_replica_cpu_seconds", "counter", "CPU time of a process"),
    "process_resident_memory_bytes": ("slipway_replica_memory_bytes", "gauge", "Resident memory of a process"),
    "slipway_connections": ("slipway_replica_connections", "gauge", "Open connections of a process"),
    "slipway_queue_rows": ("slipway_replica_queue_rows", "gauge", "Rows in the queues of a process"),
}
"""Samples that are also shown for each process: the family that shows them, its type and its help text."""


def merge(processes: Iterable[Sequence[Family]]) -> list[Family]:
    """One family of each name, in the order in which they first appear."""
    merged: dict[str, Family] = {}
    values: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Any]] = {}
    for families in processes:
        for family in families:
            into = merged.setdefault(family["name"], {**family, "samples": [], "exemplars": []})
            for name, labels, value in family["samples"]:
                key = family["name"], name, tuple(sorted(labels.items()))
                row = values.get(key)
                if row is None:
                    row = values[key] = [name, labels, value]
                    into["samples"].append(row)
                else:
                    row[2] = _together(family, row[2], value)
            into["exemplars"] = _newest([*into["exemplars"], *family.get("exemplars", ())])
    return list(merged.values())


def _newest(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """The newest exemplar of each sample."""
    newest: dict[Any, Sequence[Any]] = {}
    for row in rows:
        key = row[0], tuple(sorted(row[1].items()))
        if key not in newest or newest[key][-1] < row[-1]:
            newest[key] = row
    return list(newest.values())


def counted(families: Iterable[Family]) -> list[Family]:
    """The families whose values a process leaves behind when it ends: else sums would fall."""
    return [family for family in families if family["type"] in ADDED and not family["name"].startswith("process_")]


def still_shown(departed: Iterable[Family], living: Iterable[Family]) -> list[Family]:
    """The families of ended processes, without the samples of models that no living process has any more."""
    models = {_model(labels) for family in living for _, labels, _ in family["samples"]}
    return [
        {**family, "samples": [row for row in family["samples"] if "model" not in row[1] or _model(row[1]) in models]}
        for family in departed
    ]


def of_each(processes: Mapping[int, Sequence[Family]]) -> list[Family]:
    """The samples that are shown for each process, with its number as the label ``replica``."""
    shown: dict[str, Family] = {}
    for number, families in processes.items():
        sums: dict[str, float] = {}
        for name, _, value in (row for family in families for row in family["samples"] if row[0] in OF_EACH):
            sums[name] = sums.get(name, 0.0) + value
        for name, value in sums.items():
            title, kind, text = OF_EACH[name]
            family = shown.setdefault(title, {"name": title, "type": kind, "text": text, "samples": []})
            suffix = "_total" if kind == "counter" else ""
            family["samples"].append([title + suffix, {"replica": str(number)}, value])
    return list(shown.values())


def _together(family: Family, one: float, other: float) -> float:
    if family["type"] in ADDED or family["name"] in ADDED_GAUGES:
        return one + other
    return min(one, other) if family["name"] in LEAST_GAUGES else max(one, other)


def _model(labels: Mapping[str, str]) -> tuple[str | None, str | None]:
    return labels.get("model"), labels.get("version")
