"""Checks: the conditions of a run, a curve or a search, and whether each holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..experiments import capacity
from ..experiments.capacity import Capacity
from ..experiments.ladder import Rung
from ..result import objective
from ..result.record import ObjectiveRecord, RunRecord


@dataclass(frozen=True, slots=True)
class Check:
    """One condition. ``why``: the reason of a failure; None if it holds. ``skipped``: the reason of an open outcome."""

    name: str
    why: str | None = None
    skipped: str | None = None


def of_run(record: RunRecord, max_errors_percent: float | None = None) -> tuple[Check, ...]:
    """The checks of a run: validity, errors if there is a limit, objective, samples per percentile, and audits."""
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
        few = f"too few requests for this percentile: {one.samples:,} of {one.min_samples:,}"
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
    """The checks of a curve: each of its steps, and its completeness.

    ``asked``: the number of steps. ``ended``: the reason of an early end. A saturated server is a result of the curve,
    and no failure.
    """
    found = [
        Check(f"{one.name}: the load generator was not the bottleneck", _limit(one), _saturated(one)) for one in rungs
    ]
    complete = len(rungs) == asked or (bool(rungs) and rungs[-1].saturated)
    why = ended or (None if complete else f"{len(rungs)} of {asked} steps were measured")
    return (*found, Check("the curve is complete", why))


def _limit(one: Rung) -> str | None:
    return ("; ".join(one.reasons) or "the generator was the limit") if one.generator else None


def _saturated(one: Rung) -> str | None:
    if one.generator or not one.saturated:
        return None
    return f"the server does not keep up: {one.goodput_per_s:,.1f}/s answered with success"


def of_slo(found: Capacity, name: str, at_least_per_s: float | None, ended: str | None) -> tuple[Check, ...]:
    """The checks of a search: a capacity was found, and it reaches ``at_least_per_s``.

    The second fails if the whole interval lies below. It is open if the interval contains ``at_least_per_s``, or if the
    generator reached its limit first.
    """
    checks = [
        Check(f"the highest rate with {name} was found", ended or (found.reason if found.rate_per_s is None else None))
    ]
    if at_least_per_s is not None:
        summary = capacity.summary(found, name)
        short = capacity.falls_short(found, at_least_per_s)
        title = f"{name} at {at_least_per_s:g} requests/s"
        checks.append(Check(title, summary if short else None, summary if short is None else None))
    return tuple(checks)


def _objective(found: ObjectiveRecord) -> Check:
    name = f"objective: {objective.Objective(found.quantile, found.limit_ms).name}"
    detail = f"{found.state}: {found.good_share:.2%} of requests succeeded within the limit"
    return Check(
        name,
        detail if found.state == "missed" else None,
        skipped=detail if found.state in ("undecided", "unknown") else None,
    )
