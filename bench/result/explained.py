"""The explanation and the verdict of a record: its observations, from the record and its rows."""

from __future__ import annotations

from ..explain import explanation, facts, judgement, observations
from ..explain.observations import Observations
from ..explain.transfer import Loopback
from ..explain.verdict import Verdict
from .record import RunRecord
from .repeats import Columns

SHED, TIMEOUT = ("429", "503"), "timeout"
"""Kinds of failure of a server that has too much to do."""


def explain(record: RunRecord, columns: Columns, window: Columns) -> explanation.Explanation:
    """The explanation of a load. ``columns``: all raw rows, ``window``: the measured ones."""
    return explanation.explain(columns, observations_of(record, window))


def verdict_of(record: RunRecord, columns: Columns, window: Columns, path: str | None = None) -> Verdict:
    """The verdict on a load. ``path``: of the record's file, for the commands that prove a cause."""
    observed = observations_of(record, window)
    known = facts.gather(columns, window, observed, _load(record), record.burst, record.throughput.goodput_per_s)
    return judgement.judge(known, record.command, path, record.testable)


def _load(record: RunRecord) -> facts.Load:
    client, rates = record.client, record.throughput
    return facts.Load(
        offered_per_s=rates.offered_per_s,
        answered_per_s=rates.goodput_per_s,
        failed_share=sum(one.share for one in record.errors if one.kind not in (*SHED, TIMEOUT)),
        shed_share=sum(one.share for one in record.errors if one.kind in SHED),
        requests=client.requests if client is not None else record.window.requests,
        connections=_surplus(record),
        run_delay=client.run_delay if client is not None else None,
        generator_cpu=record.validity.generator_cpu,
        resent=client.resent if client is not None else None,
        json_ms=client.json_ms if client is not None else None,
        body_bytes=float(record.load.payload.bytes),
        payloads=len(record.load.payloads),
        ceiling_per_s=record.calibration.ceiling_per_s if record.calibration is not None else None,
    )


def _surplus(record: RunRecord) -> int:
    """The connections beyond those that the load needed at once, and those that a failure closed."""
    if record.client is None:
        return 0
    failed = sum(one.count for one in record.errors)
    return max(record.client.connections - record.validity.peak_in_flight - failed, 0)


def observations_of(record: RunRecord, window: Columns) -> Observations:
    """What the explanation of a load is drawn from."""
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
