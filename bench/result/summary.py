"""The run summary: percentiles, rates and errors of the measured rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from ..load.arrivals import NS_PER_S
from ..load.measurements import Outcome, kind_of
from ..load.raw_run import RawRun
from ..load.server_timing import MISSING
from . import record, statistics
from .repeats import Columns, Repeat
from .statistics import percentile_name
from .validity import Validity

MAX_MESSAGE = 300


def latency(window: Columns, quantiles: Sequence[float], timeout_s: float, state: Validity) -> record.LatencyRecord:
    """Percentiles over successful requests and time-outs. Without time-outs, a server that never responds looks fast.

    ``window``: the measured rows, int64 [n] by column. ``state``: its ``fatal`` and ``wide`` refuse percentiles.
    """
    has_latency = np.isin(window["outcome"], (Outcome.OK, Outcome.TIMEOUT))
    due, last = window["due_ns"][has_latency], window["last_byte_ns"][has_latency]
    sent, repeat = window["send_ns"][has_latency], window["repeat"][has_latency]

    def percentiles(latency_ns: NDArray[np.int64], repeats: NDArray[np.int64]) -> dict[str, statistics.Percentile]:
        limit_ns = round(timeout_s * NS_PER_S)
        computed = (statistics.percentile(latency_ns, one, limit_ns, repeats) for one in quantiles)
        return {percentile_name(one.quantile): one for one in computed}

    percentiles_by_name = percentiles(last - due, repeat)
    trusted = {name: one for name, one in percentiles_by_name.items() if not state.fatal and name not in state.wide}
    refused = {name: one for name, one in percentiles_by_name.items() if name not in trusted}
    if not trusted:
        return record.LatencyRecord(None, None, refused)
    was_sent = sent != MISSING
    # Uncorrected latency has no value for requests that were never sent, and so it hides them.
    return record.LatencyRecord(trusted, percentiles((last - sent)[was_sent], repeat[was_sent]), refused or None)


def throughput(repeats: Sequence[Repeat]) -> record.ThroughputRecord:
    """The rates, each a mean over all repeats."""
    rates = [_rates(repeat) for repeat in repeats]
    offered = [one.offered_per_s for one in rates if one.offered_per_s is not None]
    return record.ThroughputRecord(
        fmean(offered) if len(offered) == len(rates) else None,
        fmean(one.sent_per_s for one in rates),
        fmean(one.goodput_per_s for one in rates),
    )


def _rates(repeat: Repeat) -> record.ThroughputRecord:
    """The numbers of events in the measured time, over its length. Times without events count.

    Responses follow their requests by about the median latency, so that they are counted in a window that starts and
    ends later by it. A server that keeps up then has the goodput of its arrivals, and a saturated one that of its
    capacity.
    """
    raw, measured_s = repeat.raw, max(repeat.measured_s, 1e-9)
    columns, begin_ns = raw.columns, repeat.cut_ns
    end_ns = begin_ns + round(measured_s * NS_PER_S)

    def rate_in_window(instants_ns: NDArray[np.int64], delay_ns: int = 0) -> float:
        low, high = begin_ns + delay_ns, end_ns + delay_ns
        return float(((instants_ns >= low) & (instants_ns < high)).sum()) / measured_s

    succeeded = columns["outcome"] == Outcome.OK
    latency_ns = (columns["last_byte_ns"] - columns["due_ns"])[succeeded & (columns["due_ns"] >= begin_ns)]
    delay_ns = int(np.median(latency_ns)) if len(latency_ns) else 0
    if raw.interrupted:
        delay_ns = 0  # no response was read after Ctrl-C
    offered = None
    if len(raw.scheduled_ns):
        offered = rate_in_window(raw.scheduled_ns)
    goodput = rate_in_window(columns["last_byte_ns"][succeeded], delay_ns)
    return record.ThroughputRecord(offered, rate_in_window(columns["send_ns"][columns["send_ns"] != MISSING]), goodput)


def errors(raws: Sequence[RawRun], window: Columns) -> tuple[record.ErrorRecord, ...]:
    """The failures in the window by kind, the most frequent first. Messages are those of each kind's first failure.

    That failure may lie in a warm-up.
    """
    first_of = {kind: failure for raw in reversed(raws) for kind, failure in raw.failures.items()}
    failed = window["outcome"] != Outcome.OK
    pairs, counts = np.unique(
        np.stack([window["outcome"][failed], window["status"][failed]]), axis=1, return_counts=True
    )
    by_kind: dict[str, int] = {}
    for (outcome, status), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        kind = kind_of(outcome, status)
        by_kind[kind] = by_kind.get(kind, 0) + count
    records = []
    for kind, count in sorted(by_kind.items(), key=lambda item: -item[1]):
        first = first_of[kind]
        code, message = _message(first.detail)
        records.append(record.ErrorRecord(kind, count, count / len(failed), first.index, code, message))
    return tuple(records)


def _message(detail: bytes) -> tuple[str | None, str]:
    """The ``code`` and ``error`` of a JSON error body, else the start of the body."""
    text = detail.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        code = body.get("code")
        return code if isinstance(code, str) else None, body["error"][:MAX_MESSAGE]
    return None, " ".join(text.split())[:MAX_MESSAGE]
