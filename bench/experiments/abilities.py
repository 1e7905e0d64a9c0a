"""Abilities: what this process can change in the load and the server of a record, for experiments."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from ..explain import concurrency, interventions, stages
from ..explain.interventions import Subject
from ..explain.rules.client import CHURN
from ..explain.stalls import MIN_STALL_MS
from ..explain.verdict import NAMES
from ..load import target
from ..load.payload import JSON
from ..load.server_timing import STAGES
from ..observe import held, scrape
from ..observe.model_work import ModelWork
from ..result.record import RunRecord, measured
from ..result.repeats import Columns
from . import copies, forecasting

_GENERATED = re.compile(r"(?:generated|samples)@(\d+)#")


@dataclass(frozen=True, slots=True)
class Abilities:
    """``subject``: what can be changed. ``pids``: the server's processes, the listening one first; empty if the server
    runs on another machine, or cannot be seen."""

    subject: Subject
    pids: tuple[int, ...]


def of_record(record: RunRecord, columns: Columns) -> Abilities:
    """The abilities, from a record and its running server. Processes and control groups are read, and not changed.

    ``columns``: all raw rows of the record, int64 [n] each.
    """
    server_target = target.parse(record.target.url)
    pids = scrape.processes(server_target) if record.host is not None else ()
    models = record.host.works if record.host is not None else ()
    choices = [model.choices for model in models if model.choices is not None]
    is_measured = measured(columns, record.window.repeats)
    stage_times = stages.join({name: column[is_measured] for name, column in columns.items()})
    tail, median = stages.slow(stage_times, record.stages.bands), stages.typical(stage_times, record.stages.bands)
    only_model = models[0] if len(models) == 1 else None
    subject = Subject(
        rate_per_s=record.load.rate_per_s,
        rows=generated_rows(record),
        binary=forecasting.BINARY in record.load.payload.content_type,
        payloads=len(record.load.payloads),
        timer_us=round(choices[0].max_queue_delay_ms * 1e3) if len(choices) == 1 else None,
        slows=record.host.slows if record.host is not None else False,
        p99_ms=tail.total_ms if tail is not None else 0.0,
        p50_ms=median.total_ms if median is not None else 0.0,
        stages_us={name: 1e3 * median.terms_ms[name] for name in STAGES} if median is not None else {},
        latency_ms={
            name: one.value_ms for name, one in (record.latency.corrected or {}).items() if one.value_ms is not None
        },
        users=record.load.users,
        answered_per_s=record.throughput.goodput_per_s,
        ahead=held.may_hold(held.PRIORITY, pids),
        unquota=held.may_hold(held.QUOTA, pids),
        copies=copies.can_copy(pids),
        cores=round((record.host.allowed_cores if record.host is not None else None) or record.env.cores),
        threads=(only_model.threads or 0) if only_model is not None else 0,
        instances=(only_model.instances or 1) if only_model is not None else 1,
        collects=_has_long_gc_pause(record),
        churns=_reconnects_often(record),
        own_ahead=held.may_hold(held.PRIORITY, (os.getpid(),)),
        single_load=_unbatched_load(record, only_model),
        alone_ms=record.burst.alone_ms if record.burst is not None else 0.0,
        upload_ms=_upload_ms(record),
    )
    return Abilities(subject, pids)


def with_testable(record: RunRecord, columns: Columns) -> RunRecord:
    """The record with ``testable``: the causes for which there is an experiment on the running server."""
    subject = of_record(record, columns).subject
    testable = tuple(name for name in NAMES if interventions.experiment(name, subject) is not None)
    return replace(record, testable=testable)


def generated_rows(record: RunRecord) -> int:
    """The number of rows of each generated body; 0 for bodies from files, and for bodies of several sizes."""
    names = [payload.name for payload in record.load.payloads or (record.load.payload,)]
    rows = {int(generated[1]) if (generated := _GENERATED.match(name)) else 0 for name in names}
    return rows.pop() if len(rows) == 1 else 0


def _upload_ms(record: RunRecord) -> float:
    """What a body needs on its way to the server, by the burst probe; 0 if unknown, or if a body is no JSON."""
    media_types = {one.partition(";")[0] for one in record.load.payload.content_type.split(", ")}
    if record.burst is None or media_types != {JSON}:
        return 0.0
    found = concurrency.of(record.burst, record.load.payload.bytes)
    return found.transfer_ms if found is not None else 0.0


def _has_long_gc_pause(record: RunRecord) -> bool:
    """Whether the server reported a garbage collection that was long enough to count as a stall."""
    pauses = record.host.pauses if record.host is not None else ()
    return any(pause.kind == "gc" and pause.lasted_s * 1e3 >= MIN_STALL_MS for pause in pauses)


def _reconnects_often(record: RunRecord) -> bool:
    """Whether bench opened a new connection for most of its requests, by the threshold of the verdict's rule."""
    client = record.client
    return client is not None and client.connections >= CHURN * client.requests > 0


def _unbatched_load(record: RunRecord, model: ModelWork | None) -> float | None:
    """Goodput over the capacity of a server that runs each request alone, from the cost table.

    None for a model without padding, and without a measured cost of one row.
    """
    if model is None or not model.padding or model.instances is None:
        return None
    single_ms = next((cost.ms for cost in model.usual_costs() if cost.rows == 1), None)
    return None if single_ms is None else record.throughput.goodput_per_s * single_ms / 1e3 / model.instances
