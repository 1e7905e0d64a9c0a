"""Abilities: what can be changed from here in the load and the server of a record, for experiments."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from ..explain import interventions
from ..explain.interventions import Subject
from ..explain.rules.client import CHURN
from ..explain.stalls import MIN_STALL_MS
from ..explain.verdict import NAMES
from ..load import target
from ..observe import held, scrape
from ..observe.model_work import ModelWork
from ..result.record import RunRecord
from . import copies, forecasting

_GENERATED = re.compile(r"(?:generated|samples)@(\d+)#")


@dataclass(frozen=True, slots=True)
class Abilities:
    """``subject``: what can be changed; ``pids``: the server's processes, the one that listens first, if it is here."""

    subject: Subject
    pids: tuple[int, ...]


def of_record(found: RunRecord) -> Abilities:
    """The abilities beside a running server. Its processes and control groups are looked at; nothing is changed."""
    place = target.parse(found.target.url)
    pids = scrape.processes(place) if found.host is not None else ()
    works = found.host.works if found.host is not None else ()
    choices = [one.choices for one in works if one.choices is not None]
    # As the verdict: the highest percentile that the run has requests enough for.
    slow = next((found.stages.bands[name] for name in ("p99", "p95", "p90") if name in found.stages.bands), None)
    typical = found.stages.bands.get("p50")
    compute_ms = typical.terms_ms["compute"] if typical is not None and found.stages.server else 0.0
    alone = works[0] if len(works) == 1 else None
    subject = Subject(
        rate_per_s=found.load.rate_per_s,
        rows=generated_rows(found),
        binary=forecasting.BINARY in found.load.payload.content_type,
        payloads=len(found.load.payloads),
        timer_us=round(choices[0].max_queue_delay_ms * 1e3) if len(choices) == 1 else None,
        run_us=compute_ms * 1e3 or None,
        slows=found.host.slows if found.host is not None else False,
        p99_ms=slow.total_ms if slow is not None else 0.0,
        ahead=held.may_hold(held.PRIORITY, pids),
        unquota=held.may_hold(held.QUOTA, pids),
        copies=copies.can_copy(pids),
        cores=round((found.host.allowed_cores if found.host is not None else None) or found.env.cores),
        threads=(alone.threads or 0) if alone is not None else 0,
        instances=(alone.instances or 1) if alone is not None else 1,
        collects=_collects(found),
        churns=_churns(found),
        own_ahead=held.may_hold(held.PRIORITY, (os.getpid(),)),
        single_load=_single_load(found, alone),
    )
    return Abilities(subject, pids)


def with_testable(found: RunRecord) -> RunRecord:
    """The record with the causes that can be tested beside the running server."""
    subject = of_record(found).subject
    return replace(found, testable=tuple(name for name in NAMES if interventions.experiment(name, subject) is not None))


def generated_rows(found: RunRecord) -> int:
    """The rows of each generated body; 0 for bodies from files, and for bodies of several sizes."""
    names = [one.name for one in found.load.payloads or (found.load.payload,)]
    rows = {int(match[1]) if (match := _GENERATED.match(name)) else 0 for name in names}
    return rows.pop() if len(rows) == 1 else 0


def _collects(found: RunRecord) -> bool:
    """Whether the server told of a pause of its garbage collector that was long enough for a stall."""
    pauses = found.host.pauses if found.host is not None else ()
    return any(one.kind == "gc" and one.lasted_s * 1e3 >= MIN_STALL_MS for one in pauses)


def _churns(found: RunRecord) -> bool:
    """Whether bench opened a connection for most of its requests, as the rule of the verdict counts them."""
    client = found.client
    return client is not None and client.connections >= CHURN * client.requests > 0


def _single_load(found: RunRecord, work: ModelWork | None) -> float | None:
    """The load over the capacity of a server that runs each request alone, by its cost table; None without padding."""
    if work is None or not work.padding or work.instances is None:
        return None
    single_ms = next((one.ms for one in work.usual_costs() if one.rows == 1), None)
    return None if single_ms is None else found.throughput.goodput_per_s * single_ms / 1e3 / work.instances
