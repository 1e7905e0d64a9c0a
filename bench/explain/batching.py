"""Batching: the runs of the model in one load, their cost, and the capacity of one instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..observe.model_work import ModelWork
from ..observe.timeline import ServerTimeline
from . import batches, steps
from .batches import BatchLaw, Runs, SizeCost
from .steps import StepLaw


@dataclass(frozen=True, slots=True)
class Batching:
    """Runs of the model.

    ``busy_instances``: the mean, by the utilisation law. ``capacity_per_s``: rows that one instance computes per second
    at its best; ``capacity_from``: the source of that figure. ``padding``: the share of all computed positions that was
    padding. ``steps``: set for a pipeline only. Then ``runs`` counts the runs of all steps, by the server's counters,
    and ``sizes`` and ``law`` are empty.
    """

    runs: int
    sizes: tuple[SizeCost, ...]
    law: BatchLaw | None
    rows_per_s: float
    busy_instances: float
    capacity_per_s: float | None
    capacity_from: str | None
    padding: float | None = None
    steps: tuple[StepLaw, ...] = ()


def batching(runs: Runs, timeline: ServerTimeline | None, seconds: float) -> Batching | None:
    """The batching of a load that lasted ``seconds``: from the server's counters for a pipeline, else from ``runs``.

    The requests of a pipeline share no single run, so ``runs`` says nothing there. None without any run.
    """
    works = timeline.works if timeline is not None else ()
    of_steps = [one for one in works if one.step]
    if of_steps:
        return _of_steps(of_steps)
    return _of_runs(runs, timeline, seconds) if len(runs.rows) else None


def _of_steps(works: Sequence[ModelWork]) -> Batching:
    laws = steps.laws(works)
    instances = {one.step: one.instances or 1 for one in works}
    slowest = min(laws, key=lambda law: law.capacity_per_s * instances[law.step], default=None)
    return Batching(
        runs=round(sum(one.runs for one in works)),
        sizes=(),
        law=None,
        rows_per_s=max(one.rows / one.seconds for one in works),
        busy_instances=sum(one.busy or 0.0 for one in works),
        capacity_per_s=slowest.capacity_per_s if slowest is not None else None,
        capacity_from=f"the server's cost table of step {slowest.step}" if slowest is not None else None,
        padding=_padding(works),
        steps=laws,
    )


def _of_runs(runs: Runs, timeline: ServerTimeline | None, seconds: float) -> Batching:
    law = batches.fit(runs)
    capacity, source = _capacity(law, timeline)
    return Batching(
        runs=len(runs.rows),
        sizes=batches.costs(runs),
        law=law,
        rows_per_s=float(runs.rows.sum()) / seconds,
        busy_instances=float(runs.compute_ns.sum()) / 1e9 / seconds,
        capacity_per_s=capacity,
        capacity_from=source,
        padding=_padding(timeline.works if timeline is not None else ()),
    )


def _padding(works: Sequence[ModelWork]) -> float | None:
    """The share of padding among all computed positions; None if no model pads."""
    real, padding = sum(one.real for one in works), sum(one.padding for one in works)
    return padding / (real + padding) if real > 0 else None


def _capacity(law: BatchLaw | None, timeline: ServerTimeline | None) -> tuple[float | None, str | None]:
    """Rows per second of one instance, and the source of the figure.

    The server's cost table comes first, because it holds sizes that this load never reached.
    """
    table = {int(rows): ms for rows, ms in (timeline.costs_ms if timeline is not None else {}).items() if ms > 0}
    works = [one for one in (timeline.works if timeline is not None else ()) if one.costs]
    busiest = max(works, key=lambda one: one.runs, default=None)
    if busiest is not None:
        table = {one.rows: one.ms for one in busiest.usual_costs()}
    if table:
        return max(rows / ms for rows, ms in table.items()) * 1e3, "the server's cost table"
    if law is not None and law.ms(law.largest) > 0:
        return law.capacity_per_s(), f"the batch law, at the largest batch of this load ({law.largest} rows)"
    return None, None
