"""The explanation of a record: its observations, from the record and its rows."""

from __future__ import annotations

from ..explain import explanation, observations
from ..explain.transfer import Loopback
from .record import RunRecord
from .repeats import Columns


def explain(record: RunRecord, columns: Columns, window: Columns) -> explanation.Explanation:
    """The explanation of a load. ``columns``: all raw rows, ``window``: the measured ones."""
    timeline, limits = record.host, record.calibration
    on_this_machine = timeline is not None and timeline.pid is not None
    loopback = None
    if limits is not None and limits.transfer_us is not None:
        loopback = Loopback(limits.body_bytes, limits.transfer_us)
    observed = observations.observe(
        window,
        stretches=record.window.stretches,
        request_bytes=float(record.load.payload.bytes),
        cores=(record.env.quota_cores or record.env.cores) if on_this_machine else None,
        timeline=timeline,
        seed=record.load.seed,
        loopback=loopback,
        link=record.link,
        memory=record.memory,
    )
    return explanation.explain(columns, observed)
