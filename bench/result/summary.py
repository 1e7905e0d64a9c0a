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
    """Percentiles over responses and time-outs. Without time-outs, a server that never responds would look fast.

    ``state``: refuses all of them, or some.
    """
    counted = np.isin(window["outcome"], (Outcome.OK, Outcome.TIMEOUT))
    due, last = window["due_ns"][counted], window["last_byte_ns"][counted]
    sent, repeat = window["send_ns"][counted], window["repeat"][counted]

    def percentiles(latency_ns: NDArray[np.int64], repeats: NDArray[np.int64]) -> dict[str, statistics.Percentile]:
        limit_ns = round(timeout_s * NS_PER_S)
        found = (statistics.percentile(latency_ns, one, limit_ns, repeats) for one in quantiles)
        return {percentile_name(one.quantile): one for one in found}

    every = percentiles(last - due, repeat)
    trusted = {name: one for name, one in every.items() if not state.fatal and name not in state.wide}
    refused = {name: one for name, one in every.items() if name not in trusted}
    if not trusted:
        return record.LatencyRecord(None, None, refused)
    went = sent != MISSING
    # A request that was never sent has no uncorrected latency, which is the fault of that figure.
    return record.LatencyRecord(trusted, percentiles((last - sent)[went], repeat[went]), refused or None)


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
    """Events within the measured time over its length, so that silence counts as silence.

    Responses come later than their requests by about the median latency; they are counted in a window that is as much
    later. A server that falls behind then shows its own rate, and one that keeps up shows that of its requests.
    """
    raw, lasts_s = repeat.raw, max(repeat.lasts_s, 1e-9)
    columns, begin_ns = raw.columns, repeat.cut_ns
    end_ns = begin_ns + round(lasts_s * NS_PER_S)

    def inside(instants_ns: NDArray[np.int64], later_ns: int = 0) -> float:
        low, high = begin_ns + later_ns, end_ns + later_ns
        return float(((instants_ns >= low) & (instants_ns < high)).sum()) / lasts_s

    answered = columns["outcome"] == Outcome.OK
    latency_ns = (columns["last_byte_ns"] - columns["due_ns"])[answered & (columns["due_ns"] >= begin_ns)]
    later_ns = int(np.median(latency_ns)) if len(latency_ns) else 0
    if raw.interrupted:
        later_ns = 0  # nothing was read after the end
    offered = None
    if len(raw.scheduled_ns):
        offered = inside(raw.scheduled_ns)
    goodput = inside(columns["last_byte_ns"][answered], later_ns)
    return record.ThroughputRecord(offered, inside(columns["send_ns"][columns["send_ns"] != MISSING]), goodput)


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
