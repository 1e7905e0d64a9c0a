"""The alarms of a deployment, which end a canary: errors, latency, and requests that the server shed."""

from __future__ import annotations

from typing import Any

from ..calls import Call
from ..description import Description
from .resources import VARIANT, tags

ERRORS, LATENCY, SHED = "errors", "latency", "shed"
KINDS = (ERRORS, LATENCY, SHED)
SHARE = 0.01
"""Share of failed, and of shed requests, above which an alarm is raised."""
PERIOD_S, PERIODS = 60, 2


def names(deployment: str) -> list[str]:
    """The names of all alarms that a deployment may have."""
    return [f"slipway-{deployment}-{kind}" for kind in KINDS]


def calls(description: Description) -> list[Call]:
    """PutMetricAlarm for each alarm. The latency has an alarm only where an objective is known."""
    made = [_errors(description), _shed(description)]
    if description.objective_ms is not None:
        made.append(_latency(description))
    return [Call("cloudwatch", "PutMetricAlarm", {**one, "Tags": tags(description)}) for one in made]


def _about(description: Description, kind: str, text: str) -> dict[str, Any]:
    return {"AlarmName": f"slipway-{description.name}-{kind}", "AlarmDescription": text}


def _metric(description: Description, name: str, statistic: str, key: str) -> dict[str, Any]:
    dimensions = [{"Name": "EndpointName", "Value": description.name}, {"Name": "VariantName", "Value": VARIANT}]
    metric = {"Namespace": "AWS/SageMaker", "MetricName": name, "Dimensions": dimensions}
    stat = {"Metric": metric, "Period": PERIOD_S, "Stat": statistic}
    return {"Id": key, "MetricStat": stat, "ReturnData": False}


def _errors(description: Description) -> dict[str, Any]:
    share = {"Id": "share", "Expression": "failed / all", "Label": "share of failed requests", "ReturnData": True}
    return {
        **_about(description, ERRORS, f"more than {SHARE:.0%} of the requests get a 5xx response"),
        "Metrics": [
            _metric(description, "Invocation5XXErrors", "Sum", "failed"),
            _metric(description, "Invocations", "Sum", "all"),
            share,
        ],
        **_threshold(SHARE),
    }


def _latency(description: Description) -> dict[str, Any]:
    assert description.objective_ms is not None
    measured = _metric(description, "ModelLatency", "p99", "latency") | {"ReturnData": True}
    return {
        **_about(description, LATENCY, f"p99 of ModelLatency is above {description.objective_ms:g} ms"),
        "Metrics": [measured],
        **_threshold(description.objective_ms * 1_000),  # the metric is in microseconds
    }


def _threshold(value: float) -> dict[str, Any]:
    return {
        "Threshold": value,
        "ComparisonOperator": "GreaterThanThreshold",
        "EvaluationPeriods": PERIODS,
        "TreatMissingData": "notBreaching",
    }


def _shed(description: Description) -> dict[str, Any]:
    """On the server's own counter, which the platform scrapes from /metrics."""
    endpoint = f'"aws.sagemaker.endpoint.name"="{description.name}"'
    shed = f'sum(rate({{__name__="slipway_requests_total",{endpoint},outcome=~"overloaded|deadline_exceeded"}}[2m]))'
    every = f'sum(rate({{__name__="slipway_requests_total",{endpoint}}}[2m]))'
    criteria = {"Query": f"{shed} / {every} > {SHARE:g}", "PendingPeriod": PERIOD_S, "RecoveryPeriod": PERIOD_S}
    return {
        **_about(description, SHED, f"the server sheds more than {SHARE:.0%} of the requests"),
        "EvaluationCriteria": {"PromQLCriteria": criteria},
        "EvaluationInterval": PERIOD_S,
    }
