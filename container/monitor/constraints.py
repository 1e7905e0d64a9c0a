"""Constraints: what a check holds data to, in Model Monitor's ``constraints.json``, suggested from a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .columns import Column
from .errors import MonitorError

MOST_DOMAINS = 100
"""A text column with more distinct values in the baseline has no domain."""


@dataclass(slots=True)
class Rule:
    """The constraints of one column. ``domain``: the values of a text column; None: any."""

    kind: str
    completeness: float = 1.0
    non_negative: bool = False
    domain: frozenset[str] | None = None
    drift_threshold: float | None = None
    """Overrides the threshold of all columns."""


@dataclass(slots=True)
class Constraints:
    """The rules of all columns, and what a difference must reach to be reported."""

    rules: dict[str, Rule] = field(default_factory=dict)
    threshold: float = 0.1
    categorical_threshold: float = 0.1
    method: str = "Robust"
    """``Robust`` asks for significance too; ``Simple`` compares distances with the threshold only."""
    type_threshold: float = 1.0
    domain_threshold: float = 1.0
    enabled: bool = True
    compares: bool = True


def suggest(columns: Mapping[str, Column], threshold: float = 0.1) -> Constraints:
    """The constraints that the baseline itself meets. ``threshold``: least distance that counts as drift."""
    rules = {}
    for name, column in columns.items():
        rule = Rule(column.kind, column.present / column.count if column.count else 0.0)
        rule.non_negative = column.kind in ("Integral", "Fractional") and column.low >= 0
        if column.kind == "String" and len(column.categories) <= MOST_DOMAINS and not column.uncounted:
            rule.domain = frozenset(column.categories)
        rules[name] = rule
    return Constraints(rules, threshold, threshold)


def to_json(constraints: Constraints) -> dict[str, Any]:
    """``constraints.json``."""
    features = []
    for name, rule in constraints.rules.items():
        feature: dict[str, Any] = {"name": name, "inferred_type": rule.kind, "completeness": rule.completeness}
        if rule.kind in ("Integral", "Fractional"):
            feature["num_constraints"] = {"is_non_negative": rule.non_negative}
        elif rule.domain is not None:
            feature["string_constraints"] = {"domains": sorted(rule.domain)}
        if rule.drift_threshold is not None:
            feature["monitoringConfigOverrides"] = {
                "distribution_constraints": {"comparison_threshold": rule.drift_threshold}
            }
        features.append(feature)
    return {
        "version": 0,
        "features": features,
        "monitoring_config": {
            "evaluate_constraints": "Enabled" if constraints.enabled else "Disabled",
            "emit_metrics": "Enabled",
            "datatype_check_threshold": constraints.type_threshold,
            "domain_content_threshold": constraints.domain_threshold,
            "distribution_constraints": {
                "perform_comparison": "Enabled" if constraints.compares else "Disabled",
                "comparison_threshold": constraints.threshold,
                "comparison_method": constraints.method,
                "categorical_comparison_threshold": constraints.categorical_threshold,
                "categorical_drift_method": "LInfinity",
            },
        },
    }


def from_json(document: Any) -> Constraints:
    """The constraints of a file, of ours or edited by hand or of Model Monitor. Raises MonitorError."""
    try:
        config = document.get("monitoring_config") or {}
        drift = config.get("distribution_constraints") or {}
        threshold = _share(drift.get("comparison_threshold", 0.1), "comparison_threshold")
        constraints = Constraints(
            threshold=threshold,
            categorical_threshold=_share(drift.get("categorical_comparison_threshold", threshold), "threshold"),
            method=str(drift.get("comparison_method", "Robust")),
            type_threshold=_share(config.get("datatype_check_threshold", 1.0), "datatype_check_threshold"),
            domain_threshold=_share(config.get("domain_content_threshold", 1.0), "domain_content_threshold"),
            enabled=config.get("evaluate_constraints", "Enabled") == "Enabled",
            compares=drift.get("perform_comparison", "Enabled") == "Enabled",
        )
        for feature in document["features"]:
            rule = Rule(str(feature["inferred_type"]), _share(feature.get("completeness", 1.0), "completeness"))
            rule.non_negative = bool((feature.get("num_constraints") or {}).get("is_non_negative"))
            domains = (feature.get("string_constraints") or {}).get("domains")
            rule.domain = frozenset(map(str, domains)) if domains is not None else None
            own = ((feature.get("monitoringConfigOverrides") or {}).get("distribution_constraints") or {}).get(
                "comparison_threshold"
            )
            rule.drift_threshold = None if own is None else _share(own, "comparison_threshold")
            constraints.rules[str(feature["name"])] = rule
    except (AttributeError, KeyError, TypeError) as error:
        raise MonitorError(f"the constraints are not in Model Monitor's form: {error!r}") from error
    if constraints.method not in ("Robust", "Simple"):
        raise MonitorError(f"comparison_method must be Robust or Simple, got {constraints.method!r}")
    return constraints


def _share(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise MonitorError(f"{name} must be a number from 0 to 1, got {value!r}")
    return float(value)
