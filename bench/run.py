"""A run: one load from what was asked for to the record of what happened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import environment, host, record, stats, validity
from .errors import Unusable
from .explain import explanation, sentence, stages
from .load import calibration, engine, probe, schedule, scrape
from .load.engine import RawRun, Watch
from .load.measurements import Outcome, kind_of
from .load.payload import Payload
from .load.schedule import NS_PER_S, Schedule
from .load.server_timing import MISSING, Carrier
from .load.target import Target

TOOL = "slipway bench 0.1.0"
MAX_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. Exactly one of ``rate_per_s`` (open loop) and ``users`` (closed loop) is set.

    ``command`` reproduces the run. ``calibrate``: measure the generator's own limits first.
    """

    target: Target
    payload: Payload
    rate_per_s: float | None
    users: int | None
    arrivals: str
    duration_s: float
    warmup_s: float
    seed: int
    timeout_s: float
    connections: int
    carrier: Carrier
    calibrate: bool
    command: str


def execute(plan: Plan, watch: Watch | None = None) -> tuple[record.RunRecord, RawRun]:
    """Look, calibrate, load, look again. Raises Unusable when there is nothing to load, or nothing to load it with."""
    arrivals = _schedule(plan)
    probe.reach(plan.target)
    limits = calibration.calibrate(plan.payload, plan.carrier) if plan.calibrate else None
    _check_rate(plan, limits)
    env = environment.describe()
    metadata = probe.metadata(plan.target)
    before = probe.stage_totals(plan.target)
    created = datetime.now(UTC)
    with scrape.scraping(plan.target) as scraped:
        raw = _load(plan, arrivals, watch)
    beside = host.build(scraped, raw.start_ns, (plan.warmup_s, plan.warmup_s + plan.duration_s))
    told = {"stage_means_ms": probe.stage_means_ms(before, probe.stage_totals(plan.target))}
    return build(plan, raw, env, created, limits, metadata, told, beside), raw


def build(
    plan: Plan,
    raw: RawRun,
    env: environment.Environment,
    created: datetime,
    limits: calibration.Calibration | None = None,
    metadata: dict[str, Any] | None = None,
    server: dict[str, dict[str, float]] | None = None,
    beside: host.Host | None = None,
) -> record.RunRecord:
    """The record of a load that has happened; computes, and touches nothing."""
    from_ns = round(plan.warmup_s * NS_PER_S)
    window = {name: column[raw.columns["due_ns"] >= from_ns] for name, column in raw.columns.items()}
    verdict = validity.judge(raw, window, from_ns, plan.connections)
    account = stages.join(window)
    bands = _bands(account)
    text = sentence.where_the_time_went(bands.get("p50"), bands.get("p99"), account.with_server)
    return record.RunRecord(
        id=f"{created:%Y%m%dT%H%M%SZ}-{hashlib.sha256(f'{created} {plan.command}'.encode()).hexdigest()[:8]}",
        created=created.isoformat(timespec="seconds"),
        tool=TOOL,
        command=plan.command,
        partial=raw.interrupted,
        abandoned=raw.abandoned,
        target=record.TargetRecord(plan.target.url, plan.target.model, metadata),
        load=_load_record(plan),
        env=env,
        calibration=limits,
        validity=verdict,
        window=record.WindowRecord("as asked", plan.warmup_s, plan.warmup_s + plan.duration_s, len(window["index"])),
        latency=_latency(window, plan, verdict.ok),
        throughput=_throughput(raw, window, plan, from_ns),
        errors=_errors(raw, window),
        stages=_stages(account, bands),
        tail=_tail(bands),
        sentence=text,
        batches={str(size): count for size, count in stages.batch_sizes(account).items()},
        server=server or {},
        host=beside,
        explanation=explanation.explain(raw.columns, _circumstances(plan, env, beside)),
    )


def _circumstances(plan: Plan, env: environment.Environment, beside: host.Host | None) -> explanation.Circumstances:
    here = beside is not None and beside.pid is not None
    return explanation.Circumstances(
        window=(plan.warmup_s, plan.warmup_s + plan.duration_s),
        request_bytes=len(plan.payload.body),
        cores=(env.quota_cores or env.cores) if here else None,
        host=beside,
        seed=plan.seed,
    )


def _schedule(plan: Plan) -> Schedule | None:
    if plan.rate_per_s is None:
        return None
    return schedule.build(plan.arrivals, plan.rate_per_s, plan.warmup_s + plan.duration_s, plan.seed)


def _check_rate(plan: Plan, limits: calibration.Calibration | None) -> None:
    if limits is not None and plan.rate_per_s is not None and plan.rate_per_s > limits.usable_rate_per_s:
        raise Unusable(
            f"the generator reaches {limits.ceiling_per_s:,.0f} requests/s here and can be trusted up to half of that: "
            f"lower --rate to {limits.usable_rate_per_s:,.0f}, or pass --skip-calibration and watch the send lag"
        )


def _load(plan: Plan, arrivals: Schedule | None, watch: Watch | None) -> RawRun:
    wire = plan.target.request(plan.payload, plan.carrier)
    shot = engine.Shot(plan.target, wire, plan.carrier, plan.timeout_s, plan.connections)
    if arrivals is not None:
        return engine.run_open(shot, arrivals, watch)
    assert plan.users is not None
    return engine.run_closed(shot, plan.users, plan.warmup_s + plan.duration_s, watch)


def _load_record(plan: Plan) -> record.LoadRecord:
    body = plan.payload
    is_open = plan.rate_per_s is not None
    return record.LoadRecord(
        mode="open" if is_open else "closed",
        arrivals=plan.arrivals if is_open else None,
        rate_per_s=plan.rate_per_s,
        users=plan.users,
        seed=plan.seed,
        duration_s=plan.duration_s,
        warmup_s=plan.warmup_s,
        timeout_s=plan.timeout_s,
        connections=plan.connections,
        carrier=plan.carrier.name,
        payload=record.PayloadRecord(body.name, body.content_type, body.sha256, len(body.body)),
    )


def _latency(window: dict[str, NDArray[np.int64]], plan: Plan, trusted: bool) -> record.LatencyRecord:
    """Percentiles of answers, and of time-outs as at least the limit: without those, never answering pays off."""
    counted = np.isin(window["outcome"], (Outcome.OK, Outcome.TIMEOUT))
    due, last = window["due_ns"][counted], window["last_byte_ns"][counted]
    sent = window["send_ns"][counted]
    corrected = _percentiles(last - due, plan)
    if not trusted:
        return record.LatencyRecord(None, None, corrected)
    # A request that was never sent has no uncorrected latency, which is what is wrong with that figure.
    return record.LatencyRecord(corrected, _percentiles((last - sent)[sent != MISSING], plan), None)


def _percentiles(latency_ns: NDArray[np.int64], plan: Plan) -> dict[str, stats.Percentile]:
    limit_ns = round(plan.timeout_s * NS_PER_S)
    found = (stats.percentile(latency_ns, quantile, limit_ns, plan.seed) for quantile in stages.QUANTILES)
    return {f"p{one.quantile * 100:g}": one for one in found}


def _throughput(raw: RawRun, window: dict[str, NDArray[np.int64]], plan: Plan, from_ns: int) -> record.ThroughputRecord:
    answered_ns = window["last_byte_ns"][window["outcome"] == Outcome.OK]
    sent_ns = window["send_ns"][window["send_ns"] != MISSING]
    offered = None
    if len(raw.scheduled_ns):
        # A partial run offered what was due until it ended.
        due_ns = raw.scheduled_ns[raw.scheduled_ns >= from_ns] if not raw.interrupted else window["due_ns"]
        offered = _rate_per_s(due_ns, plan.duration_s)
    return record.ThroughputRecord(
        offered, _rate_per_s(sent_ns, plan.duration_s), _rate_per_s(answered_ns, plan.duration_s)
    )


def _rate_per_s(instants_ns: NDArray[np.int64], duration_s: float) -> float:
    """Events per second from the first to the last, so that neither end of the window counts as idle time."""
    span_ns = int(instants_ns.max() - instants_ns.min()) if len(instants_ns) else 0
    return (len(instants_ns) - 1) / (span_ns / NS_PER_S) if span_ns else len(instants_ns) / duration_s


def _errors(raw: RawRun, window: dict[str, NDArray[np.int64]]) -> tuple[record.ErrorRecord, ...]:
    """Failures of the window by kind, most frequent first; the words are those of the first of the whole run."""
    bad = window["outcome"] != Outcome.OK
    pairs, counts = np.unique(np.stack([window["outcome"][bad], window["status"][bad]]), axis=1, return_counts=True)
    by_kind: dict[str, int] = {}
    for (outcome, status), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        kind = kind_of(outcome, status)
        by_kind[kind] = by_kind.get(kind, 0) + count
    found = []
    for kind, count in sorted(by_kind.items(), key=lambda item: -item[1]):
        first = raw.failures[kind]
        code, message = _words(first.detail)
        found.append(record.ErrorRecord(kind, count, count / len(bad), first.index, code, message))
    return tuple(found)


def _words(detail: bytes) -> tuple[str | None, str]:
    """The server's ``code`` and ``error`` from the body of its answer, or the start of that body as it is."""
    text = detail.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("error"), str):
        code = body.get("code")
        return code if isinstance(code, str) else None, body["error"][:MAX_MESSAGE]
    return None, " ".join(text.split())[:MAX_MESSAGE]


def _bands(account: stages.Account) -> dict[str, stages.Band]:
    found = [stages.mean(account), *(stages.at_quantile(account, quantile) for quantile in stages.QUANTILES)]
    return {band.name: band for band in found if band is not None}


def _stages(account: stages.Account, bands: dict[str, stages.Band]) -> record.StagesRecord:
    count = len(account.total_ns)
    return record.StagesRecord(account.with_server, count, account.unaccounted, account.contradictions, bands)


def _tail(bands: dict[str, stages.Band]) -> record.TailRecord | None:
    median, tail = bands.get("p50"), bands.get("p99")
    if median is None or tail is None:
        return None
    contributions = stages.tail_contributions(median, tail)
    return record.TailRecord((tail.low, tail.high), tail.total_ms - median.total_ms, contributions)
