"""Validity: whether a run measured the server and not its own load generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..explain.stages import band_around
from ..load.measurements import Outcome
from ..load.raw_run import RawRun
from ..load.server_timing import MISSING
from .statistics import order_statistic, percentile_name

MIN_SCHEDULE_KEPT = 0.99
EDGE_SHARE, EDGE_REQUESTS = 0.05, 5
"""The duration of a run is the time between the median instants of its first and of its last requests: this share of
them at each end, and at least so many."""
MAX_LAG_MS = 0.25
MAX_LAG_SHARE = 0.10
"""A percentile is refused if the mean lag of the requests around it exceeds both: ms, and a share of their latency."""
MAX_GENERATOR_CPU = 0.80
MAX_STARVED = 0.10
"""The limit for ``starved`` in a closed loop, which has no schedule, so that lag does not show a busy machine."""
QUANTILES = (0.50, 0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Validity:
    """Whether the figures of a run are reliable. ``ok``: False if one of the ``reasons`` makes a figure unreliable.

    ``fatal``: all latencies are refused. ``wide``: otherwise, the percentiles that are refused, because the lag of the
    generator is a large part of their latency. Lag is the time from the intended send of a request until the generator
    reaches it. ``lags_ms``: by percentile, the mean lag of the requests around it. ``lag_p50_ms``, ``lag_p99_ms``:
    percentiles of the lag of all requests. ``schedule_kept``: the sent rate as a share of the intended rate; None in a
    closed loop. ``generator_cpu``: share of one core. ``cap_hits``: requests that waited because all connections were
    in use. ``generator_bound``: one of the reasons lies with the generator or its machine, not with the server.
    ``starved``: share of the time in which the generator was ready and had no core; None if unknown.
    """

    ok: bool
    reasons: tuple[str, ...]
    schedule_kept: float | None
    lag_p50_ms: float | None
    lag_p99_ms: float | None
    generator_cpu: float
    peak_in_flight: int
    cap_hits: int
    generator_bound: bool = False
    fatal: bool = False
    wide: tuple[str, ...] = ()
    lags_ms: dict[str, float] = field(default_factory=dict)
    starved: float | None = None


def worst(verdicts: Sequence[Validity]) -> Validity:
    """The validity of a run with several repeats: the worst of each figure. One invalid repeat makes it invalid."""
    count = len(verdicts)
    prefixes = [f"repeat {number} of {count}: " if count > 1 else "" for number in range(1, count + 1)]
    reasons = tuple(prefix + reason for prefix, one in zip(prefixes, verdicts, strict=True) for reason in one.reasons)
    schedules_kept = [one.schedule_kept for one in verdicts if one.schedule_kept is not None]
    lags_p50_ms = [one.lag_p50_ms for one in verdicts if one.lag_p50_ms is not None]
    lags_p99_ms = [one.lag_p99_ms for one in verdicts if one.lag_p99_ms is not None]
    lags_ms = {name: max(one.lags_ms.get(name, 0.0) for one in verdicts) for one in verdicts for name in one.lags_ms}
    return Validity(
        ok=not reasons,
        reasons=reasons,
        schedule_kept=min(schedules_kept, default=None),
        lag_p50_ms=max(lags_p50_ms, default=None),
        lag_p99_ms=max(lags_p99_ms, default=None),
        generator_cpu=max(one.generator_cpu for one in verdicts),
        peak_in_flight=max(one.peak_in_flight for one in verdicts),
        cap_hits=sum(one.cap_hits for one in verdicts),
        generator_bound=any(one.generator_bound for one in verdicts),
        fatal=any(one.fatal for one in verdicts),
        wide=tuple(dict.fromkeys(name for one in verdicts for name in one.wide)),
        lags_ms=lags_ms,
        starved=max((one.starved for one in verdicts if one.starved is not None), default=None),
    )


def judge(
    raw: RawRun, columns: dict[str, NDArray[np.int64]], from_ns: int, quantiles: Sequence[float] = QUANTILES
) -> Validity:
    """The validity of one repeat. ``columns``: its rows after the warm-up, which ended ``from_ns`` after the start.

    A saturated server does not make a run invalid: requests wait for a connection, and that wait is part of latency.
    """
    lag_ns = np.sort(columns["picked_ns"] - columns["due_ns"])
    lag_p50_ms, lag_p99_ms = (order_statistic(lag_ns, q) / 1e6 if len(lag_ns) else None for q in (0.5, 0.99))
    kept = schedule_kept(raw, columns, from_ns) if len(raw.scheduled_ns) else None
    lags_ms, wide = _lags(columns, quantiles)
    generator_reasons = _generator_reasons(raw, is_open=bool(len(raw.scheduled_ns)))
    schedule_reasons, is_refusal = _schedule_reasons(kept, columns, raw.cap_hits)
    fatal_reasons = [*schedule_reasons, *generator_reasons, *_answer_reasons(columns)]
    late_reasons = [
        f"the generator was late by {lags_ms[name]:.2f} ms for the requests around {name}: other programs use this "
        "machine, or the rate is too high for it"
        for name in wide
    ]
    return Validity(
        ok=not fatal_reasons and not late_reasons,
        reasons=(*fatal_reasons, *late_reasons),
        schedule_kept=kept,
        lag_p50_ms=lag_p50_ms,
        lag_p99_ms=lag_p99_ms,
        generator_cpu=raw.generator_cpu,
        peak_in_flight=raw.peak_in_flight,
        cap_hits=raw.cap_hits,
        generator_bound=bool(late_reasons) or bool(generator_reasons) or (bool(schedule_reasons) and not is_refusal),
        fatal=bool(fatal_reasons),
        wide=wide,
        lags_ms=lags_ms,
        starved=raw.run_delay,
    )


def schedule_kept(raw: RawRun, columns: dict[str, NDArray[np.int64]], from_ns: int) -> float:
    """The sent rate as a share of the intended rate: the share of requests sent, times how much the schedule stretched.

    For an interrupted run, only requests that were due before its end count.
    """
    send_ns, due_ns = columns["send_ns"], columns["due_ns"]
    is_sent = send_ns != MISSING
    expected = int((raw.scheduled_ns >= from_ns).sum()) if not raw.interrupted else len(due_ns)
    if not is_sent.any() or not expected:
        return 0.0
    # Medians over several requests, because a single late request does not stretch the schedule of a short run.
    sent_rows = np.flatnonzero(is_sent)
    edge_count = max(int(EDGE_SHARE * len(sent_rows)), EDGE_REQUESTS)
    first, last = sent_rows[:edge_count], sent_rows[-edge_count:]
    # The instant when the generator reached a request: the wait for a connection that follows is due to the server.
    spans = (float(np.median(at[last]) - np.median(at[first])) for at in (due_ns, columns["picked_ns"]))
    due_span, picked_span = spans
    stretched = due_span / picked_span if picked_span > due_span else 1.0
    return float(is_sent.sum()) / expected * stretched


def _lags(
    columns: dict[str, NDArray[np.int64]], quantiles: Sequence[float]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The mean lag of the requests around each percentile, in ms, and the percentiles that are refused for it."""
    has_latency = np.isin(columns["outcome"], (Outcome.OK, Outcome.TIMEOUT))
    latency_ns = (columns["last_byte_ns"] - columns["due_ns"])[has_latency]
    lag_ns = (columns["picked_ns"] - columns["due_ns"])[has_latency]
    order = np.argsort(latency_ns, kind="stable")
    lags_ms: dict[str, float] = {}
    wide = []
    for quantile in quantiles if len(order) else ():
        low, high = band_around(quantile)
        band = order[int(low * len(order)) : max(int(np.ceil(high * len(order))), 1)]
        name = percentile_name(quantile)
        lags_ms[name] = float(lag_ns[band].mean()) / 1e6
        if lags_ms[name] > max(MAX_LAG_MS, MAX_LAG_SHARE * float(latency_ns[band].mean()) / 1e6):
            wide.append(name)
    return lags_ms, tuple(wide)


def _schedule_reasons(
    kept: float | None, columns: dict[str, NDArray[np.int64]], cap_hits: int
) -> tuple[list[str], bool]:
    """The reasons why the schedule is invalid, and whether the cause is a server that refused connections."""
    if kept is None or kept >= MIN_SCHEDULE_KEPT or cap_hits:
        return [], False  # with all connections in use, the server is the cause, not the generator
    refused = int(((columns["send_ns"] == MISSING) & (columns["outcome"] == Outcome.CONNECTION)).sum())
    if kept + refused / max(len(columns["send_ns"]), 1) >= MIN_SCHEDULE_KEPT:
        total = len(columns["send_ns"])
        return [f"the server refused a connection for {refused:,} of {total:,} requests: see the errors"], True
    reason = (
        f"the schedule was not kept: {kept:.1%} of the intended rate was sent, {MIN_SCHEDULE_KEPT:.0%} is needed: "
        "lower the rate, or give the generator a core of its own"
    )
    return [reason], False


def _generator_reasons(raw: RawRun, *, is_open: bool) -> list[str]:
    reasons = []
    if raw.generator_cpu > MAX_GENERATOR_CPU:
        reasons.append(
            f"the generator used {raw.generator_cpu:.0%} of its core, limit {MAX_GENERATOR_CPU:.0%}: lower the rate"
        )
    if not is_open and raw.run_delay is not None and raw.run_delay > MAX_STARVED:
        reasons.append(
            f"the generator was ready and had no core {raw.run_delay:.0%} of the time, limit {MAX_STARVED:.0%}: other "
            "programs use this machine"
        )
    if raw.exhausted:
        reasons.append("this machine ran out of file descriptors or ports: raise `ulimit -n`, or lower the rate")
    return reasons


def _answer_reasons(columns: dict[str, NDArray[np.int64]]) -> list[str]:
    if not len(columns["outcome"]):
        return ["nothing was measured: the run ended before its first request"]
    if not (columns["outcome"] == Outcome.OK).any():
        return ["no request succeeded: see the errors"]
    return []
