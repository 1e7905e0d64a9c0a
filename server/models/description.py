"""Descriptions: a model name with its versions, labels, comparison and switches, as the admin API shows it.

The descriptions of several processes of one server are merged: their figures are added up, and the largest p95 counts.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from .names import shown
from .probation import Probation
from .registry import Models
from .traffic import Arm, Canary, Shadow
from .versions import Version, Versions

Description = dict[str, Any]


def describe(models: Models, versions: Versions) -> Description:
    """The description in this process; it can be written as JSON."""
    current = versions.current()
    comparison = models.releases.comparison(versions.name)
    return {
        "name": versions.name,
        "answers": current.version if current is not None else None,
        "versions": [_version(one) for one in versions.rows()],
        "labels": dict(versions.labels),
        "comparison": _comparison(comparison) if comparison is not None else None,
        "probation": _probation(models.releases.probation(versions.name)),
        "switches": [
            {
                "at": datetime.datetime.fromtimestamp(one.at_s, datetime.UTC).isoformat(),
                "version": one.version,
                "reason": one.reason,
            }
            for one in versions.switches
        ],
    }


def merge(first: Description, others: Iterable[Description | None]) -> Description:
    """The description ``first`` with the figures of the other processes added; None: a process has none."""
    for other in others:
        if other is None:
            continue
        theirs = {row["version"]: row for row in other["versions"]}
        for row in first["versions"]:
            row["memory_bytes"] += theirs.get(row["version"], row | {"memory_bytes": 0})["memory_bytes"]
        ours, more = first["comparison"], other["comparison"]
        if ours and more and ours["kind"] == more["kind"]:
            _add_comparison(ours, more)
        if first["probation"] and other["probation"]:
            first["probation"]["answers"] += other["probation"]["answers"]
    return first


def _add_comparison(ours: dict[str, Any], more: dict[str, Any]) -> None:
    for arm in ("stable", "other"):
        one, two = ours[arm], more[arm]
        one["answers"] += two["answers"]
        one["faults"] += two["faults"]
        one["p95_ms"] = max(one["p95_ms"], two["p95_ms"])
    for outcome, count in more["outcomes"].items():
        ours["outcomes"][outcome] = ours["outcomes"].get(outcome, 0) + count
    gaps = [one for one in (ours["largest_difference"], more["largest_difference"]) if one is not None]
    ours["largest_difference"] = max(gaps, default=None)


def _probation(one: Probation | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "version": one.model.version,
        "before": one.before_version,
        "left_s": one.left_s,
        "answers": one.answers,
        "can_go_back": one.before is not None,
    }


def _version(one: Version) -> dict[str, Any]:
    return {
        "version": one.version,
        "state": one.state.value,
        "reason": shown(one.reason),
        "pinned": one.pinned,
        "path": shown(str(one.found.path)),
        "memory_bytes": one.bytes if one.model is not None else 0,
        "load_seconds": one.model.metrics.load_seconds if one.model is not None else 0.0,
        "independent_rows": one.model is not None and one.model.independent,
        "batching_reason": one.model.batching_reason if one.model is not None else "",
    }


def _comparison(comparison: Canary | Shadow) -> dict[str, Any]:
    document = {"kind": comparison.KIND, "percent": comparison.percent, "stable": _arm(comparison.stable)}
    if isinstance(comparison, Canary):
        return {**document, "other": _arm(comparison.candidate), "outcomes": {}, "largest_difference": None}
    gap = comparison.largest_difference
    return {
        **document,
        "other": _arm(comparison.shadow),
        "outcomes": dict(comparison.outcomes),
        "largest_difference": gap if gap != float("inf") else None,
    }


def _arm(arm: Arm) -> dict[str, Any]:
    return {
        "version": arm.model.version,
        "answers": arm.answers,
        "faults": arm.faults,
        "p95_ms": round(arm.p95_ns / 1e6, 3),
    }
