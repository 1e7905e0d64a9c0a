"""Recording: builds the record of a finished load from its rows. No I/O."""

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
    """Measurements before, during and after a load, apart from its rows.

    ``limits``: of the generator; None without calibration. ``metadata``: as the model reports it. ``server``: mean
    stage times in ms, from the server's counters. ``scraped``: None if the server was not scraped. ``known``:
    bandwidths of the link and of memory. ``json_ms``: time to parse the largest JSON body on this machine; None without
    a JSON body.
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
    """The record of a load, and all its raw rows, int64 [n] by column. ``raws``: one per repeat, at least one."""
    parts = repeats.cut(raws, config.seed, config.warmup_s, config.total_s)
    columns = repeats.join(parts)
    window_record, window = repeats.window(parts, columns)
    verdict = validity.worst([validity.judge(part.raw, part.rows, part.cut_ns, config.quantiles) for part in parts])
    stage_times = stages.join(window)
    bands = _bands(stage_times)
    latency = summary.latency(window, config.quantiles, config.timeout_s, verdict)
    result = record.RunRecord(
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
        window=window_record,
        latency=latency,
        throughput=summary.throughput(parts),
        errors=summary.errors(raws, window),
        stages=_stages(stage_times, bands),
        tail=_tail(bands),
        sentence=sentence.where_the_time_went(bands.get("p50"), bands.get("p99"), stage_times.with_server),
        batches={str(size): count for size, count in stages.batch_sizes(stage_times).items()},
        server=surroundings.server,
        objective=_objective(config, latency, window, window_record.seconds),
        host=_timeline(surroundings.scraped, raws[0].start_ns, window_record),
        link=surroundings.known.link,
        memory=surroundings.known.memory,
        client=_client(raws, columns, window, surroundings.json_ms),
    )
    return replace(result, explanation=explained.explain(result, columns, window)), columns


def _client(raws: Sequence[RawRun], columns: Columns, window: Columns, json_ms: float | None) -> record.ClientRecord:
    """The cost of the load for the generator.

    ``json_ms`` is scaled up by the bytes of a response, because Python writes JSON about as fast as it reads it.
    """
    names = ("bytes_out", "bytes_in")
    sent_bytes, received_bytes = (float(window[name].mean()) if len(window[name]) else 0.0 for name in names)
    resent_segments = [raw.resent for raw in raws if raw.resent is not None]
    return record.ClientRecord(
        connections=sum(raw.connections for raw in raws),
        requests=len(columns["index"]),
        run_delay=max((raw.run_delay for raw in raws if raw.run_delay is not None), default=None),
        resent=sum(resent_segments) if resent_segments else None,
        json_ms=json_ms * (1 + received_bytes / sent_bytes) if json_ms is not None and sent_bytes > 0 else None,
    )


def _id(created: datetime, command: str) -> str:
    digest = hashlib.sha256(f"{created} {command}".encode()).hexdigest()
    return f"{created:%Y%m%dT%H%M%SZ}-{digest[:8]}"


def _timeline(scraped: Scraped | None, start_ns: int, window: record.WindowRecord) -> timeline.ServerTimeline | None:
    return timeline.build(scraped, start_ns, window.stretches) if scraped is not None else None


def _load(config: RunConfig) -> record.LoadRecord:
    payload, is_open = config.payload, config.users is None
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
        payload=record.PayloadRecord(payload.name, payload.content_type, payload.sha256, round(payload.mean_bytes)),
        payloads=tuple(
            record.PayloadRecord(item.name, item.content_type, item.sha256, len(item.body), weight)
            for item, weight in zip(payload.payloads, payload.weights, strict=True)
        ),
        engine=config.engine,
        processes=config.processes,
    )


def _objective(
    config: RunConfig, latency: record.LatencyRecord, window: Columns, seconds: float
) -> record.ObjectiveRecord | None:
    if config.objective is None:
        return None
    percentile = (latency.corrected or {}).get(statistics.percentile_name(config.objective.quantile))
    return objective.judge(config.objective, percentile, window, seconds)


def _bands(stage_times: stages.Account) -> dict[str, stages.Band]:
    bands = [stages.mean(stage_times), *(stages.at_quantile(stage_times, quantile) for quantile in stages.QUANTILES)]
    return {band.name: band for band in bands if band is not None}


def _stages(stage_times: stages.Account, bands: dict[str, stages.Band]) -> record.StagesRecord:
    count = len(stage_times.total_ns)
    return record.StagesRecord(
        stage_times.with_server, count, stage_times.unaccounted, stage_times.contradictions, bands
    )


def _tail(bands: dict[str, stages.Band]) -> record.TailRecord | None:
    median, tail = bands.get("p50"), bands.get("p99")
    if median is None or tail is None:
        return None
    contributions = stages.tail_contributions(median, tail)
    return record.TailRecord((tail.low, tail.high), tail.total_ms - median.total_ms, contributions)
