"""Validity: whether a run measured the server and not its own load generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..load.measurements import Outcome
from ..load.raw_run import RawRun
from ..load.server_timing import MISSING
from .statistics import order_statistic

MIN_SCHEDULE_KEPT = 0.99
MAX_LAG_MS = 1.0
MAX_LAG_SHARE_OF_P50 = 0.05
MAX_GENERATOR_CPU = 0.80


@dataclass(frozen=True, slots=True)
class Validity:
    """The verdict on a run. ``ok``: False if one of the ``reasons`` makes its latency unreliable.

    ``schedule_kept``: sent share of the intended rate; None in a closed loop. ``lag_p50_ms``, ``lag_p99_ms``: from the
    intended instant of a request until the generator reached it. ``generator_cpu``: share of one core.
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


def worst(each: Sequence[Validity]) -> Validity:
    """The verdict on all repeats of a load: the worst of each figure. One invalid repeat makes the run invalid."""
    names = [f"repeat {number} of {len(each)}: " if len(each) > 1 else "" for number in range(1, len(each) + 1)]
    reasons = tuple(name + why for name, one in zip(names, each, strict=True) for why in one.reasons)
    kept = [one.schedule_kept for one in each if one.schedule_kept is not None]
    p50 = [one.lag_p50_ms for one in each if one.lag_p50_ms is not None]
    p99 = [one.lag_p99_ms for one in each if one.lag_p99_ms is not None]
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
    )


def judge(raw: RawRun, columns: dict[str, NDArray[np.int64]], from_ns: int, max_connections: int) -> Validity:
    """The verdict on one repeat. ``columns``: its rows after the warm-up, which ended ``from_ns`` after the start."""
    lag_ns = np.sort(columns["picked_ns"] - columns["due_ns"])
    lag_p50_ms, lag_p99_ms = (order_statistic(lag_ns, q) / 1e6 if len(lag_ns) else None for q in (0.5, 0.99))
    kept = schedule_kept(raw, columns, from_ns) if len(raw.scheduled_ns) else None
    lag_reasons = _lag_reasons(lag_p99_ms, columns)
    reasons = [
        *_schedule_reasons(kept, columns),
        *lag_reasons,
        *_generator_reasons(raw, max_connections),
        *_answer_reasons(columns),
    ]
    return Validity(
        ok=not reasons,
        reasons=tuple(reasons),
        schedule_kept=kept,
        lag_p50_ms=lag_p50_ms,
        lag_p99_ms=lag_p99_ms,
        generator_cpu=raw.generator_cpu,
        peak_in_flight=raw.peak_in_flight,
        cap_hits=raw.cap_hits,
        generator_bound=bool(lag_reasons) or raw.generator_cpu > MAX_GENERATOR_CPU or raw.exhausted,
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
    due_span = int(due_ns.max() - due_ns.min())
    send_span = int(send_ns[sent].max() - send_ns[sent].min())
    stretched = due_span / send_span if send_span > due_span else 1.0
    return float(sent.sum()) / expected * stretched


def _schedule_reasons(kept: float | None, columns: dict[str, NDArray[np.int64]]) -> list[str]:
    if kept is None or kept >= MIN_SCHEDULE_KEPT:
        return []
    refused = int(((columns["send_ns"] == MISSING) & (columns["outcome"] == Outcome.CONNECTION)).sum())
    if kept + refused / max(len(columns["send_ns"]), 1) >= MIN_SCHEDULE_KEPT:
        # The generator was in time, and the server refused its connections.
        return [
            f"the server refused a connection for {refused:,} of {len(columns['send_ns']):,} requests: see the errors"
        ]
    return [f"the schedule was not kept: {kept:.1%} of the intended rate was sent, {MIN_SCHEDULE_KEPT:.0%} is needed"]


def _lag_reasons(lag_p99_ms: float | None, columns: dict[str, NDArray[np.int64]]) -> list[str]:
    answered = columns["outcome"] == Outcome.OK
    if lag_p99_ms is None or not answered.any():
        return []
    latency_ns = np.sort((columns["last_byte_ns"] - columns["due_ns"])[answered])
    limit_ms = max(MAX_LAG_MS, MAX_LAG_SHARE_OF_P50 * order_statistic(latency_ns, 0.5) / 1e6)
    if lag_p99_ms <= limit_ms:
        return []
    cause = "other programs use this machine, or the rate is too high for it"
    return [f"the generator was late: send lag p99 {lag_p99_ms:.2f} ms, limit {limit_ms:.2f} ms; {cause}"]


def _generator_reasons(raw: RawRun, max_connections: int) -> list[str]:
    reasons = []
    if raw.generator_cpu > MAX_GENERATOR_CPU:
        reasons.append(
            f"the generator used {raw.generator_cpu:.0%} of its core, limit {MAX_GENERATOR_CPU:.0%}: lower the rate"
        )
    if raw.cap_hits:
        reasons.append(
            f"all {max_connections} connections were in use {raw.cap_hits:,} times: the server cannot keep up with "
            "this rate, or --connections is too low"
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
