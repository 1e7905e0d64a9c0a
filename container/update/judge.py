"""The decisions of the loop, from evidence alone: the record is replayed with these functions.

Each returns why the candidate is refused, or an empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Evidence = Mapping[str, Any]


def gate(evidence: Evidence) -> str:
    """The score on held-out rows, and its drop against the version that answers (upper end of the 95 % interval)."""
    metric, score = evidence["metric"], evidence["score"]
    if evidence["failed_rows"]:
        return f"{evidence['failed_rows']} of {evidence['rows']} held-out rows got no answer"
    least = evidence["least_score"]
    if least is not None and score < least:
        return f"{metric} {score:.4f} is below the least score {least:g}"
    drop = evidence.get("drop")
    if drop is not None and drop["high"] > evidence["max_drop"]:
        return (
            f"{metric} may be worse by {drop['high']:.4f} than that of version {evidence['against']} (drop "
            f"{drop['value']:.4f}, {drop['low']:.4f} to {drop['high']:.4f}; allowed {evidence['max_drop']:g})"
        )
    return ""


def shadow(evidence: Evidence) -> str:
    """Copies that the shadow did not answer. An engine that judges by itself gives no figures."""
    if "outcomes" not in evidence:
        return ""
    outcomes = evidence["outcomes"]
    compared = sum(outcomes.get(name, 0) for name in ("same", "different", "failed"))
    if evidence["ended"]:
        return f"the shadow was ended: {evidence['ended']}"
    if compared < evidence["wanted"]:
        return f"{compared} of {evidence['wanted']} shadow requests within {evidence['step_s']:g} s; is there traffic?"
    failed = outcomes.get("failed", 0)
    if failed > evidence["shadow_failures"] * compared:
        return f"{failed} of {compared} shadow requests failed"
    return ""


def canary(evidence: Evidence) -> str:
    """Faults and p95 of the canary against the stable version's, at one percentage. An engine that judges by itself
    gives no figures."""
    if "candidate" not in evidence:
        return ""
    if evidence["ended"]:
        return f"the canary at {evidence['percent']:g} % was ended: {evidence['ended']}"
    ours, theirs = evidence["candidate"], evidence["stable"]
    if ours["answers"] < evidence["wanted"]:
        return (
            f"{ours['answers']} of {evidence['wanted']} answers of the canary at {evidence['percent']:g} % within "
            f"{evidence['step_s']:g} s; is there traffic?"
        )
    rates = [one["faults"] / max(one["answers"], 1) for one in (ours, theirs)]
    if rates[0] > rates[1] + evidence["error_rate"]:
        return f"error rate {rates[0]:.2%} against {rates[1]:.2%} at {evidence['percent']:g} %"
    if evidence["latency"] and theirs["p95_ms"] and ours["p95_ms"] > evidence["latency"] * theirs["p95_ms"]:
        return f"p95 {ours['p95_ms']:g} ms against {theirs['p95_ms']:g} ms at {evidence['percent']:g} %"
    return ""


def promotion(evidence: Evidence) -> str:
    """Whether the version still answers at the end of its probation."""
    if evidence["answers"] != evidence["version"]:
        return f"version {evidence['answers']} answers again: {evidence['reason'] or 'no reason given'}"
    return ""


JUDGES: Mapping[str, Callable[[Evidence], str]] = {"gate": gate, "shadow": shadow, "promote": promotion}


def of_step(step: str, evidence: Evidence) -> str:
    """The verdict of a step by its name; steps without a decision pass."""
    if step.startswith("canary "):
        return canary(evidence)
    judged = JUDGES.get(step)
    return judged(evidence) if judged is not None and "skipped" not in evidence else ""
