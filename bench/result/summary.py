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
from .objective import percentile_name
from .repeats import Columns, Repeat

MAX_MESSAGE = 300


def latency(window: Columns, quantiles: Sequence[float], timeout_s: float, trusted: bool) -> record.LatencyRecord:
    """Percentiles over responses and time-outs. Without time-outs, a server that never responds would look fast.

    ``trusted``: whether the run is valid.
    """
    counted = np.isin(window["outcome"], (Outcome.OK, Outcome.TIMEOUT))
    due, last = window["due_ns"][counted], window["last_byte_ns"][counted]
    sent, repeat = window["send_ns"][counted], window["repeat"][counted]

    def percentiles(latency_ns: NDArray[np.int64], repeats: NDArray[np.int64]) -> dict[str, statistics.Percentile]:
        limit_ns = round(timeout_s * NS_PER_S)
        found = (statistics.percentile(latency_ns, one, limit_ns, repeats) for one in quantiles)
        return {percentile_name(one.quantile): one for one in found}

    corrected = percentiles(last - due, repeat)
    if not trusted:
        return record.LatencyRecord(None, None, corrected)
    went = sent != MISSING
    # A request that was never sent has no uncorrected latency, which is the fault of that figure.
    return record.LatencyRecord(corrected, percentiles((last - sent)[went], repeat[went]), None)


def throughput(repeats: Sequence[Repeat]) -> record.ThroughputRecord:
    """The mean rates over all repeats."""
    each = [_rates(one) for one in repeats]
    offered = [one.offered_per_s for one in each if one.offered_per_s is not None]
    return record.ThroughputRecord(
        fmean(offered) if len(offered) == len(each) else None,
        fmean(one.sent_per_s for one in each),
        fmean(one.goodput_per_s for one in each),
    )


def _rates(repeat: Repeat) -> record.ThroughputRecord:
    raw, rows, lasts_s = repeat.raw, repeat.rows, repeat.lasts_s
    answered_ns = rows["last_byte_ns"][rows["outcome"] == Outcome.OK]
    sent_ns = rows["send_ns"][rows["send_ns"] != MISSING]
    offered = None
    if len(raw.scheduled_ns):
        # A partial run offered the requests that were due before its end.
        due_ns = raw.scheduled_ns[raw.scheduled_ns >= repeat.cut_ns] if not raw.interrupted else rows["due_ns"]
        offered = _rate_per_s(due_ns, lasts_s)
    return record.ThroughputRecord(offered, _rate_per_s(sent_ns, lasts_s), _rate_per_s(answered_ns, lasts_s))


def _rate_per_s(instants_ns: NDArray[np.int64], duration_s: float) -> float:
    """Events per second from the first to the last, so that the ends of the window do not count as idle time."""
    span_ns = int(instants_ns.max() - instants_ns.min()) if len(instants_ns) else 0
    return (len(instants_ns) - 1) / (span_ns / NS_PER_S) if span_ns else len(instants_ns) / duration_s


def errors(raws: Sequence[RawRun], window: Columns) -> tuple[record.ErrorRecord, ...]:
    """Failures of the window by kind, the most frequent first, with the message of the first one in the whole run."""
    first_of = {kind: failure for raw in reversed(raws) for kind, failure in raw.failures.items()}
    bad = window["outcome"] != Outcome.OK
    pairs, counts = np.unique(np.stack([window["outcome"][bad], window["status"][bad]]), axis=1, return_counts=True)
    by_kind: dict[str, int] = {}
    for (outcome, status), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        kind = kind_of(outcome, status)
        by_kind[kind] = by_kind.get(kind, 0) + count
    found = []
    for kind, count in sorted(by_kind.items(), key=lambda item: -item[1]):
        first = first_of[kind]
        code, message = _message(first.detail)
        found.append(record.ErrorRecord(kind, count, count / len(bad), first.index, code, message))
    return tuple(found)


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
