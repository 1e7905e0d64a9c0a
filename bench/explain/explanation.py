"""The explanation: everything that the rows of one run, and what was seen beside it, say about where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..observe.link import Link
from ..observe.memory_bandwidth import MemoryBandwidth
from ..observe.model_work import ModelWork
from ..observe.timeline import ServerTimeline, Span
from . import audits, batches, causes, dispersion, evidence, stages, steps, tail, transfer
from .batches import BatchLaw, Runs, SizeCost
from .stages import Account, Band
from .steps import StepLaw

Columns = dict[str, NDArray[np.int64]]
QUANTILES = (0.50, 0.90, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the rows do not tell. ``stretches``: when was measured, one for each repeat. ``cores``: what this machine
    gives a program, None when the server runs elsewhere. ``request_bytes``: of a body, on average. ``loopback``: what
    the body takes without a network; None where nobody calibrated. ``link``: its nominal rate, ``memory``: how fast
    the server's is; None where nobody knows."""

    stretches: tuple[Span, ...]
    request_bytes: float
    cores: float | None
    host: ServerTimeline | None
    seed: int = 0
    loopback: transfer.Loopback | None = None
    link: Link | None = None
    memory: MemoryBandwidth | None = None

    @property
    def seconds(self) -> float:
        """All that was measured, warm-ups between repeats left out."""
        return sum(end_s - start_s for start_s, end_s in self.stretches)


@dataclass(frozen=True, slots=True)
class Batching:
    """Runs of the model. ``busy_instances``: on average, by the utilisation law. ``capacity_per_s``: rows that one
    instance computes per second at its best; ``capacity_from`` says whose figure that is. ``padding``: the share of
    all computed positions that was only filled up. ``steps``: of a pipeline, whose ``runs`` are those of all steps, as
    the server counts them, and of which ``sizes`` and ``law`` are empty."""

    runs: int
    sizes: tuple[SizeCost, ...]
    law: BatchLaw | None
    rows_per_s: float
    busy_instances: float
    capacity_per_s: float | None
    capacity_from: str | None
    padding: float | None = None
    steps: tuple[StepLaw, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """Bands by name, the tail against the median, variance by term, arrivals, batches, audits, and the five causes.

    ``without_cause``: share of a typical request's time that no cause claims: generator, network, unexplained.
    """

    bands: dict[str, Band]
    tail: tail.Attribution | None
    variance: dict[str, float] | None
    arrivals: tuple[dispersion.Dispersion, ...]
    batching: Batching | None
    audits: tuple[audits.Audit, ...]
    causes: tuple[causes.Cause, ...]
    without_cause: float | None


def explain(columns: Columns, window: Columns, about: Circumstances) -> Explanation:
    """Explain the measured rows of a run; ``columns`` are all, warm-ups included.

    Both in the order of their intended instants, which count from the start of the load.
    """
    account = stages.join(window)
    bands = {band.name: band for quantile in QUANTILES if (band := stages.at_quantile(account, quantile)) is not None}
    attribution = tail.attribute(account, about.seed)
    arrivals = dispersion.dispersion(window["due_ns"], about.stretches)
    runs = batches.reconstruct(account)
    batching = _of_steps(about) or (_batching(runs, about) if len(runs.rows) else None)
    answered = window["outcome"] == Outcome.OK
    reply_bytes = float(window["bytes_in"][answered].mean()) if answered.any() else 0.0
    median = bands.get("p50")
    slope = transfer.slope(window)
    seen = median and _seen(account, median, attribution, batching, arrivals, reply_bytes, slope, about)
    return Explanation(
        bands=bands,
        tail=attribution,
        variance=tail.variance_shares(account),
        arrivals=arrivals,
        batching=batching,
        audits=_audits(columns, account, runs, about),
        causes=causes.weigh(seen) if seen else (),
        without_cause=_without_cause(median) if median is not None and account.with_server else None,
    )


def _of_steps(about: Circumstances) -> Batching | None:
    """Of a pipeline, by the server's own count: what its requests share is no one run. None for a plain model."""
    works = [one for one in (about.host.works if about.host is not None else ()) if one.step]
    if not works:
        return None
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


def _padding(works: Sequence[ModelWork]) -> float | None:
    """The share of positions that were padding, over all that pads."""
    real, padding = sum(one.real for one in works), sum(one.padding for one in works)
    return padding / (real + padding) if real > 0 else None


def _batching(runs: Runs, about: Circumstances) -> Batching:
    seconds = about.seconds
    law = batches.fit(runs)
    capacity, source = _capacity(law, about.host)
    return Batching(
        runs=len(runs.rows),
        sizes=batches.costs(runs),
        law=law,
        rows_per_s=float(runs.rows.sum()) / seconds,
        busy_instances=float(runs.compute_ns.sum()) / 1e9 / seconds,
        capacity_per_s=capacity,
        capacity_from=source,
        padding=_padding(about.host.works if about.host is not None else ()),
    )


def _capacity(law: BatchLaw | None, host: ServerTimeline | None) -> tuple[float | None, str | None]:
    """Rows per second of one instance: from the server's cost table if it has one: it knows sizes not seen here."""
    table = {int(rows): ms for rows, ms in (host.costs_ms if host is not None else {}).items() if ms > 0}
    works = [one for one in (host.works if host is not None else ()) if one.costs]
    asked = max(works, key=lambda one: one.runs, default=None)
    if asked is not None:
        table = {one.rows: one.ms for one in asked.usual_costs()}
    if table:
        return max(rows / ms for rows, ms in table.items()) * 1e3, "the server's cost table"
    if law is not None and law.ms(law.largest) > 0:
        return law.capacity_per_s(), f"the batch law, at the {law.largest} rows that were seen at most"
    return None, None


def _seen(
    account: Account,
    median: Band,
    attribution: tail.Attribution | None,
    batching: Batching | None,
    arrivals: tuple[dispersion.Dispersion, ...],
    reply_bytes: float,
    slope: transfer.Slope | None,
    about: Circumstances,
) -> evidence.Seen:
    return evidence.Seen(
        account=account,
        median=median,
        tail=attribution,
        law=batching.law if batching is not None else None,
        host=about.host,
        stretches=about.stretches,
        request_bytes=about.request_bytes,
        reply_bytes=reply_bytes,
        rows_per_s=batching.rows_per_s if batching is not None else None,
        capacity_per_s=batching.capacity_per_s if batching is not None else None,
        busy_instances=batching.busy_instances if batching is not None else None,
        arrivals=arrivals,
        cores=about.cores,
        slope=slope,
        loopback=about.loopback,
        link=about.link,
        memory=about.memory,
        steps=batching.steps if batching is not None else (),
    )


def _audits(columns: Columns, account: Account, runs: Runs, about: Circumstances) -> tuple[audits.Audit, ...]:
    totals = about.host.totals if about.host is not None else None
    found = (
        audits.little(columns, about.stretches),
        audits.little_in_server(account, totals, about.seconds),
        audits.utilisation(runs, totals, about.seconds),
        audits.contradictions(account),
    )
    return tuple(one for one in found if one is not None)


def _without_cause(median: Band) -> float:
    claimed = sum(median.terms_ms[name] for name in causes.terms_without_cause())
    return max(claimed, 0.0) / median.total_ms if median.total_ms > 0 else 0.0
