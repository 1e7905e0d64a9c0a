"""The gauges of a check: Prometheus' text format for a textfile collector, and CloudWatch's lines of a job."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from .columns import Column
from .drift import Finding
from .quality import QualityFinding


def text(
    findings: Sequence[Finding], quality: Sequence[QualityFinding], rows: int, bad_lines: int, now: datetime
) -> str:
    """The gauges as text."""
    registry = CollectorRegistry()
    drift = Gauge(
        "slipway_monitor_drift_ratio",
        "Distance of a column from the baseline: the estimate, and the ends of its interval",
        ["feature", "bound"],
        registry=registry,
    )
    share = Gauge(
        "slipway_monitor_bad_ratio",
        "Share of missing, mistyped or unexpected values of a column",
        ["feature", "check"],
        registry=registry,
    )
    for one in findings:
        if one.check == "baseline_drift_check" and one.test != "Fisher's exact test":
            for bound, value in (("estimate", one.value), ("low", one.low), ("high", one.high)):
                drift.labels(one.feature, bound).set(value)
        elif one.test != "presence":
            share.labels(one.feature, one.check).set(one.value)
    violated = Gauge("slipway_monitor_violations", "Violations of the last check", ["check"], registry=registry)
    for check, count in Counter(one.check for one in findings if one.violated).items():
        violated.labels(check).set(count)
    violated.labels("quality").set(sum(one.violated for one in quality))
    figure = Gauge("slipway_monitor_quality", "Quality of predictions against labels", ["metric"], registry=registry)
    for row in quality:
        figure.labels(row.metric).set(row.value)
    Gauge("slipway_monitor_rows", "Rows of the last check", registry=registry).set(rows)
    Gauge("slipway_monitor_bad_lines", "Lines of the last check that were skipped", registry=registry).set(bad_lines)
    Gauge("slipway_monitor_last_check_seconds", "Time of the last check, Unix epoch", registry=registry).set(
        now.timestamp()
    )
    return generate_latest(registry).decode()


def cloudwatch(
    columns: dict[str, Column], findings: Sequence[Finding], now: datetime, dimensions: dict[str, str]
) -> str:
    """The metrics of Model Monitor as JSON lines, which a monitoring job publishes."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    named = [{"Name": name, "Value": value} for name, value in dimensions.items()]

    def line(name: str, **values: Any) -> str:
        return json.dumps({"MetricName": name, "Timestamp": stamp, "Dimensions": named, **values})

    lines = []
    for name, column in columns.items():
        if column.numbers:
            told = {"Maximum": column.high, "Minimum": column.low, "SampleCount": column.numbers, "Sum": column.total}
            lines.append(line(f"feature_data_{name}", StatisticValues=told))
        share = column.present / column.count if column.count else 0.0
        lines.append(line(f"feature_non_null_{name}", Value=share))
    lines += [
        line(f"feature_baseline_drift_{one.feature}", Value=one.value)
        for one in findings
        if one.check == "baseline_drift_check" and one.test != "Fisher's exact test"
    ]
    return "".join(one + "\n" for one in lines)
