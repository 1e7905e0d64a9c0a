"""Recording: the record of a load that has happened, computed from its rows without any side effect."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..explain import sentence, stages
from ..load import arrivals, calibration
from ..load.raw_run import RawRun
from ..observe import timeline
from ..observe.bandwidth import UNKNOWN, Bandwidth
from ..observe.environment import Environment
from ..observe.scrape import Scraped
from ..result import explained, objective, record, repeats, statistics, summary, validity
from ..result.repeats import Columns
from .config import AUTO_WARMUP_S, RunConfig

TOOL = "slipway bench 0.1.0"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was measured beside a load.

    ``limits``: those of the generator; None without calibration. ``metadata``: the model's own. ``server``: mean stage
    times by the server's counters, in ms. ``scraped``: None if the server was not scraped. ``known``: bandwidths.
    ``json_ms``: time to read the largest JSON body here; None without one.
    """

    env: Environment
    limits: calibration.Calibration | None = None
    metadata: dict[str, Any] | None = None
    server: dict[str, dict[str, float]] = field(default_factory=dict)
    scraped: Scraped | None = None
    known: Bandwidth = UNKNOWN
    json_ms: float | None = None


def build(
    config: RunConfig, raws: Sequence[RawRun], created: datetime, surroundings: Surroundings
) -> tuple[record.RunRecord, Columns]:
    """The record of a load, and its rows. ``raws``: one per repeat, at least one."""
    cut = repeats.cut(raws, config.seed, config.warmup_s, config.total_s)
    columns = repeats.join(cut)
    measured, window = repeats.window(cut, columns)
    verdict = validity.worst([validity.judge(one.raw, one.rows, one.cut_ns, config.quantiles) for one in cut])
    account = stages.join(window)
    bands = _bands(account)
    latency = summary.latency(window, config.quantiles, config.timeout_s, verdict)
    found = record.RunRecord(
        id=_id(created, config.command),
        created=created.isoformat(timespec="seconds"),
        tool=TOOL,
        command=config.command,
        partial=any(raw.interrupted for raw in raws),
        abandoned=sum(raw.abandoned for raw in raws),
        target=record.TargetRecord(config.target.url, config.target.model, surroundings.metadata),
        load=_load(config),
        env=surroundings.env,
        calibration=surroundings.limits,
        validity=verdict,
        window=measured,
        latency=latency,
        throughput=summary.throughput(cut),
        errors=summary.errors(raws, window),
        stages=_stages(account, bands),
        tail=_tail(bands),
        sentence=sentence.where_the_time_went(bands.get("p50"), bands.get("p99"), account.with_server),
        batches={str(size): count for size, count in stages.batch_sizes(account).items()},
        server=surroundings.server,
        objective=_objective(config, latency, window, measured.seconds),
        host=_timeline(surroundings.scraped, raws[0].start_ns, measured),
        link=surroundings.known.link,
        memory=surroundings.known.memory,
        client=_client(raws, columns, window, surroundings.json_ms),
    )
    return replace(found, explanation=explained.explain(found, columns, window)), columns


def _client(raws: Sequence[RawRun], columns: Columns, window: Columns, json_ms: float | None) -> record.ClientRecord:
    """What the load cost the generator. Writing JSON takes about as long as reading it, by bytes."""
    sent, came = (float(window[name].mean()) if len(window[name]) else 0.0 for name in ("bytes_out", "bytes_in"))
    resent = [raw.resent for raw in raws if raw.resent is not None]
    return record.ClientRecord(
        connections=sum(raw.connections for raw in raws),
        requests=len(columns["index"]),
        run_delay=max((raw.run_delay for raw in raws if raw.run_delay is not None), default=None),
        resent=sum(resent) if resent else None,
        json_ms=json_ms * (1 + came / sent) if json_ms is not None and sent > 0 else None,
    )


def _id(created: datetime, command: str) -> str:
    digest = hashlib.sha256(f"{created} {command}".encode()).hexdigest()
    return f"{created:%Y%m%dT%H%M%SZ}-{digest[:8]}"


def _timeline(scraped: Scraped | None, start_ns: int, window: record.WindowRecord) -> timeline.ServerTimeline | None:
    return timeline.build(scraped, start_ns, window.stretches) if scraped is not None else None


def _load(config: RunConfig) -> record.LoadRecord:
    body, is_open = config.payload, config.users is None
    rate = config.rate_per_s
    if is_open and rate is None:
        rate = arrivals.parse(config.arrivals).rate_per_s
    warmup_s = AUTO_WARMUP_S if config.warmup_s is None else config.warmup_s
    return record.LoadRecord(
        mode="open" if is_open else "closed",
        arrivals=config.arrivals if is_open else None,
        rate_per_s=rate if is_open else None,
        users=config.users,
        seed=config.seed,
        duration_s=config.total_s - warmup_s,
        warmup_s=warmup_s,
        timeout_s=config.timeout_s,
        connections=config.connections,
        carrier=config.carrier.name,
        payload=record.PayloadRecord(body.name, body.content_type, body.sha256, round(body.mean_bytes)),
        payloads=tuple(
            record.PayloadRecord(one.name, one.content_type, one.sha256, len(one.body), weight)
            for one, weight in zip(body.payloads, body.weights, strict=True)
        ),
        engine=config.engine,
        processes=config.processes,
    )


def _objective(
    config: RunConfig, latency: record.LatencyRecord, window: Columns, seconds: float
) -> record.ObjectiveRecord | None:
    if config.objective is None:
        return None
    found = (latency.corrected or {}).get(statistics.percentile_name(config.objective.quantile))
    return objective.judge(config.objective, found, window, seconds)


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
