"""The explanation and the verdict of a run, from its record and its rows."""

from __future__ import annotations

from ..explain import explanation, facts, judgement, observations
from ..explain.observations import Observations
from ..explain.transfer import Loopback
from ..explain.verdict import Verdict
from .record import RunRecord
from .repeats import Columns

SHED, TIMEOUT = ("429", "503"), "timeout"
"""Kinds of failure of an overloaded server: shed requests by HTTP status, and time-outs."""


def explain(record: RunRecord, columns: Columns, window: Columns) -> explanation.Explanation:
    """The explanation of a run. ``columns``: all raw rows, int64 [n] each. ``window``: the measured rows, int64 [m]."""
    return explanation.explain(columns, observations_of(record, window))


def verdict_of(record: RunRecord, columns: Columns, window: Columns, path: str | None = None) -> Verdict:
    """The verdict on a run. ``path``: the file of the record, which the suggested commands name."""
    observed = observations_of(record, window)
    load = _load(record)
    known_facts = facts.gather(columns, window, observed, load, record.burst)
    return judgement.judge(known_facts, record.command, path, record.testable, load)


def _load(record: RunRecord) -> facts.Load:
    client, rates = record.client, record.throughput
    return facts.Load(
        offered_per_s=rates.offered_per_s,
        answered_per_s=rates.goodput_per_s,
        failed_share=sum(one.share for one in record.errors if one.kind not in (*SHED, TIMEOUT)),
        shed_share=sum(one.share for one in record.errors if one.kind in SHED),
        requests=client.requests if client is not None else record.window.requests,
        connections=_surplus_connections(record),
        run_delay=client.run_delay if client is not None else None,
        generator_cpu=record.validity.generator_cpu,
        resent=client.resent if client is not None else None,
        json_ms=client.json_ms if client is not None else None,
        body_bytes=float(record.load.payload.bytes),
        payloads=len(record.load.payloads),
        ceiling_per_s=record.calibration.ceiling_per_s if record.calibration is not None else None,
        users=record.load.users,
    )


def _surplus_connections(record: RunRecord) -> int:
    """Connections that were opened in addition to those in use at the peak and those that replaced failed ones."""
    if record.client is None:
        return 0
    failures = sum(one.count for one in record.errors)
    return max(record.client.connections - record.validity.peak_in_flight - failures, 0)


def observations_of(record: RunRecord, window: Columns) -> Observations:
    """The inputs of the explanation. ``window``: the measured rows, int64 [m] each."""
    timeline, limits = record.host, record.calibration
    on_this_machine = timeline is not None and timeline.pid is not None
    cores = timeline.allowed_cores if timeline is not None else None
    loopback = None
    if limits is not None and limits.transfer_us is not None:
        loopback = Loopback(limits.body_bytes, limits.transfer_us)
    return observations.observe(
        window,
        stretches=record.window.stretches,
        request_bytes=float(record.load.payload.bytes),
        cores=(cores or float(record.env.cores)) if on_this_machine else None,
        timeline=timeline,
        seed=record.load.seed,
        loopback=loopback,
        link=record.link,
        memory=record.memory,
    )
