"""JUnit: what a run, a curve or a search was held to, as the XML that every CI system shows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unusable
from ..experiments import capacity as slo
from ..experiments.capacity import Capacity
from ..experiments.ladder import Rung
from ..result import objective
from ..result.record import ObjectiveRecord, RunRecord


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run was held to. ``why``: what is wrong; None when it holds. ``skipped``: why nobody can say."""

    name: str
    why: str | None = None
    skipped: str | None = None


def checks_of(record: RunRecord, max_errors_percent: float | None = None) -> tuple[Check, ...]:
    """The run itself, its errors if there is a limit, its objective, enough samples per percentile, and its audits."""
    state = record.validity
    found = [Check("the load generator was not the bottleneck", "; ".join(state.reasons) or None)]
    failed_percent = 100 * sum(one.share for one in record.errors)
    if max_errors_percent is not None:
        kinds = ", ".join(f"{one.kind}: {one.count}" for one in record.errors)
        within = failed_percent <= max_errors_percent
        why = None if within else f"{failed_percent:.2f} % of requests failed, limit {max_errors_percent:g} % ({kinds})"
        found.append(Check(f"at most {max_errors_percent:g} % of requests fail", why))
    if record.objective is not None:
        found.append(_objective(record.objective))
    for name, one in (record.latency.corrected or {}).items():
        few = f"too few requests for this percentile: {one.samples:,} of {one.min_samples:,} that it needs"
        found.append(Check(f"enough requests for {name}", skipped=few if one.samples < one.min_samples else None))
    for audit in record.explanation.audits if record.explanation is not None and state.ok else ():
        detail = (
            f"{audit.left}: {audit.left_value:.4g}, {audit.right}: {audit.right_value:.4g} {audit.unit}; {audit.note}"
        )
        found.append(
            Check(audit.name, detail if audit.ok is False else None, skipped=detail if audit.ok is None else None)
        )
    return tuple(found)


def of_sweep(rungs: Sequence[Rung], asked: int, ended: str | None) -> tuple[Check, ...]:
    """Each step of a curve, and whether it is whole. ``asked``: how many steps; ``ended``: why it ended before its end.

    A server that does not keep up is what a curve is there to find, and no failure of it.
    """
    found = [
        Check(f"{one.name}: the load generator was not the bottleneck", _limit(one), _saturated(one)) for one in rungs
    ]
    whole = len(rungs) == asked or (bool(rungs) and rungs[-1].saturated)
    why = ended or (None if whole else f"{len(rungs)} of {asked} steps were measured")
    return (*found, Check("the curve is whole", why))


def _limit(one: Rung) -> str | None:
    return ("; ".join(one.reasons) or "the generator was the limit") if one.generator else None


def _saturated(one: Rung) -> str | None:
    if one.generator or not one.saturated:
        return None
    return f"the server does not keep up: {one.goodput_per_s:,.1f}/s answered with success"


def of_slo(found: Capacity, name: str, at_least_per_s: float | None, ended: str | None) -> tuple[Check, ...]:
    """Whether a capacity was found, and whether it is as much as was asked for: no when the whole interval lies below,
    and nobody knows when the interval holds the wish, or when the generator ended before it."""
    checks = [
        Check(f"the highest rate with {name} was found", ended or (found.reason if found.rate_per_s is None else None))
    ]
    if at_least_per_s is not None:
        told = slo.summary(found, name)
        short = slo.falls_short(found, at_least_per_s)
        title = f"{name} at {at_least_per_s:g} requests/s"
        checks.append(Check(title, told if short else None, told if short is None else None))
    return tuple(checks)


def _objective(told: ObjectiveRecord) -> Check:
    name = f"objective: {objective.Objective(told.quantile, told.limit_ms).name}"
    detail = f"{told.state}: {told.good_share:.2%} of requests were answered within the limit"
    return Check(
        name,
        detail if told.state == "missed" else None,
        skipped=detail if told.state in ("undecided", "unknown") else None,
    )


def render(suite: str, checks: Sequence[Check], seconds: float = 0.0) -> bytes:
    """The XML document."""
    failures = sum(one.why is not None for one in checks)
    skipped = sum(one.skipped is not None for one in checks)
    root = ET.Element("testsuites")
    parent = ET.SubElement(root, "testsuite", name=suite, time=f"{seconds:.3f}", tests=str(len(checks)), errors="0")
    parent.attrib |= {"failures": str(failures), "skipped": str(skipped)}
    for one in checks:
        case = ET.SubElement(parent, "testcase", classname=suite, name=one.name)
        if one.why is not None:
            ET.SubElement(case, "failure", message=_plain(one.why))
        elif one.skipped is not None:
            ET.SubElement(case, "skipped", message=_plain(one.skipped))
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def write(path: Path, suite: str, checks: Sequence[Check], seconds: float = 0.0) -> None:
    """Write the document. Raises Unusable when the disk refuses."""
    try:
        path.write_bytes(render(suite, checks, seconds))
    except OSError as error:
        raise Unusable(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def _plain(text: str) -> str:
    """A server may answer with anything; XML has no place for control characters."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)
