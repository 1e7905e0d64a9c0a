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
"""The requests at each end of a run whose medians tell how much longer it took than it should."""
MAX_LAG_MS = 0.25
MAX_LAG_SHARE = 0.10
"""A percentile is refused if the generator was late by more than both, for the requests around it."""
MAX_GENERATOR_CPU = 0.80
MAX_STARVED = 0.10
"""Callers of a closed loop are never late; a generator without a core only reads their responses late."""
QUANTILES = (0.50, 0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Validity:
    """The verdict on a run as a measurement. ``ok``: False if one of the ``reasons`` makes a figure unreliable.

    ``fatal``: no latency is reliable. Otherwise only the percentiles in ``wide`` are refused: there the generator was
    late for a large part of the latency. ``lags_ms``: by percentile, the mean lag of the requests around it, from the
    intended instant until the generator reached them. ``schedule_kept``: sent share of the intended rate; None in a
    closed loop. ``lag_p50_ms``, ``lag_p99_ms``: percentiles of the lag of all requests. ``generator_cpu``: share of one
    core. ``starved``: share of the time in which the generator was ready and had no core; None if unknown.
    ``generator_bound``: one of the reasons lies with the generator or its machine, not with the server.
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


def worst(each: Sequence[Validity]) -> Validity:
    """The verdict on all repeats of a load: the worst of each figure. One invalid repeat makes the run invalid."""
    names = [f"repeat {number} of {len(each)}: " if len(each) > 1 else "" for number in range(1, len(each) + 1)]
    reasons = tuple(name + why for name, one in zip(names, each, strict=True) for why in one.reasons)
    kept = [one.schedule_kept for one in each if one.schedule_kept is not None]
    p50 = [one.lag_p50_ms for one in each if one.lag_p50_ms is not None]
    p99 = [one.lag_p99_ms for one in each if one.lag_p99_ms is not None]
    lags = {name: max(one.lags_ms.get(name, 0.0) for one in each) for one in each for name in one.lags_ms}
    return Validity(
        ok=not reasons,
        reasons=reasons,
        schedule_kept=min(kept, default=None),
        lag_p50_ms=max(p50, default=None),
        lag_p99_ms=max(p99, default=None),
        generator_cpu=max(one.generator_cpu for one in each),
        peak_in_flight=max(one.peak_in_flight for one in each),
        cap_hits=sum(one.cap_hits for one in each),
        generator_bound=any(one.generator_bound for one in each),
        fatal=any(one.fatal for one in each),
        wide=tuple(dict.fromkeys(name for one in each for name in one.wide)),
        lags_ms=lags,
        starved=max((one.starved for one in each if one.starved is not None), default=None),
    )


def judge(
    raw: RawRun, columns: dict[str, NDArray[np.int64]], from_ns: int, quantiles: Sequence[float] = QUANTILES
) -> Validity:
    """The verdict on one repeat. ``columns``: its rows after the warm-up, which ended ``from_ns`` after the start.

    A server that cannot keep up makes no run invalid: requests wait for a connection, and their latency is its result.
    """
    lag_ns = np.sort(columns["picked_ns"] - columns["due_ns"])
    lag_p50_ms, lag_p99_ms = (order_statistic(lag_ns, q) / 1e6 if len(lag_ns) else None for q in (0.5, 0.99))
    kept = schedule_kept(raw, columns, from_ns) if len(raw.scheduled_ns) else None
    lags_ms, wide = _lags(columns, quantiles)
    of_generator = _generator_reasons(raw, is_open=bool(len(raw.scheduled_ns)))
    of_schedule, refused = _schedule_reasons(kept, columns, raw.cap_hits)
    fatal = [*of_schedule, *of_generator, *_answer_reasons(columns)]
    late = [
        f"the generator was late by {lags_ms[name]:.2f} ms for the requests around {name}: other programs use this "
        "machine, or the rate is too high for it"
        for name in wide
    ]
    return Validity(
        ok=not fatal and not late,
        reasons=(*fatal, *late),
        schedule_kept=kept,
        lag_p50_ms=lag_p50_ms,
        lag_p99_ms=lag_p99_ms,
        generator_cpu=raw.generator_cpu,
        peak_in_flight=raw.peak_in_flight,
        cap_hits=raw.cap_hits,
        generator_bound=bool(late) or bool(of_generator) or (bool(of_schedule) and not refused),
        fatal=bool(fatal),
        wide=wide,
        lags_ms=lags_ms,
        starved=raw.run_delay,
    )


def schedule_kept(raw: RawRun, columns: dict[str, NDArray[np.int64]], from_ns: int) -> float:
    """The sent rate as a share of the intended rate, by the number of requests and by the time that they took.

    An interrupted run counts the requests that were due before its end.
    """
    send_ns, due_ns = columns["send_ns"], columns["due_ns"]
    sent = send_ns != MISSING
    expected = int((raw.scheduled_ns >= from_ns).sum()) if not raw.interrupted else len(due_ns)
    if not sent.any() or not expected:
        return 0.0
    # Of the first and the last requests, not of single ones: one late request of a short run stretches no schedule.
    sent_at = np.flatnonzero(sent)
    some = max(int(EDGE_SHARE * len(sent_at)), EDGE_REQUESTS)
    first, last = sent_at[:some], sent_at[-some:]
    # When the generator reached them: a wait for a connection is the server's.
    spans = (float(np.median(at[last]) - np.median(at[first])) for at in (due_ns, columns["picked_ns"]))
    due_span, picked_span = spans
    stretched = due_span / picked_span if picked_span > due_span else 1.0
    return float(sent.sum()) / expected * stretched


def _lags(
    columns: dict[str, NDArray[np.int64]], quantiles: Sequence[float]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The mean lag of the requests around each percentile, in ms, and the percentiles at which it is wide."""
    counted = np.isin(columns["outcome"], (Outcome.OK, Outcome.TIMEOUT))
    latency_ns = (columns["last_byte_ns"] - columns["due_ns"])[counted]
    lag_ns = (columns["picked_ns"] - columns["due_ns"])[counted]
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
    """The reasons against the schedule, and whether they lie with a server that refused connections."""
    if kept is None or kept >= MIN_SCHEDULE_KEPT or cap_hits:
        return [], False  # with all connections in use, the server is late and not the generator
    refused = int(((columns["send_ns"] == MISSING) & (columns["outcome"] == Outcome.CONNECTION)).sum())
    if kept + refused / max(len(columns["send_ns"]), 1) >= MIN_SCHEDULE_KEPT:
        # The generator was in time, and the server refused its connections.
        return [
            f"the server refused a connection for {refused:,} of {len(columns['send_ns']):,} requests: see the errors"
        ], True
    return [
        f"the schedule was not kept: {kept:.1%} of the intended rate was sent, {MIN_SCHEDULE_KEPT:.0%} is needed"
    ], False


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
