"""A run: one load, once or repeated, from what was asked for to the record of what happened."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import Unusable
from ..explain import explanation, sentence, stages, transfer
from ..load import arrivals, calibration, fleet, probe, schedule
from ..load.callers import Callers
from ..load.payload_set import CYCLE, PayloadSet
from ..load.raw_run import RawRun, Watch
from ..load.sagemaker import Endpoint
from ..load.schedule import Schedule
from ..load.server_timing import Carrier
from ..load.shot import Shot
from ..load.target import Target
from ..load.wire import PLAIN, Template, Wire, render
from ..observe import bandwidth as ways
from ..observe import environment, scrape
from ..observe import timeline as host
from ..observe.bandwidth import UNKNOWN, Bandwidth
from ..observe.scrape import Scraped
from ..result import objective, record, repeats, validity
from ..result import summary as outcome
from ..result.repeats import Columns

TOOL = "slipway bench 0.1.0"
AUTO_WARMUP_S = 2.0
"""Time added for a warm-up that is cut where the rows say so; the cut may also be longer or shorter."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for.

    ``users`` makes a closed loop; otherwise ``arrivals`` come at ``rate_per_s``, or at their own rate (None).
    ``warmup_s``: None for a cut chosen from the rows. ``command`` reproduces the run. ``calibrate``: measure the
    generator's own limits first. ``repeats`` take the seeds from ``seed`` on. ``endpoint``: the SageMaker endpoint that
    ``target`` is the address of. ``look``: ask the server and its machine for their own figures before, beside
    and after the load; a trial of which only the latency counts leaves them alone. ``link_mbit``: the link's nominal
    rate, None for what the system says.
    """

    target: Target
    payload: PayloadSet
    rate_per_s: float | None
    users: int | None
    arrivals: str
    duration_s: float
    warmup_s: float | None
    seed: int
    timeout_s: float
    connections: int
    carrier: Carrier
    calibrate: bool
    command: str
    repeats: int = 1
    processes: int = 1
    engine: str = fleet.FAST
    template: Template = PLAIN
    endpoint: Endpoint | None = None
    objective: objective.Objective | None = None
    look: bool = True
    link_mbit: float | None = None

    @property
    def total_s(self) -> float:
        """Seconds of one repeat, its warm-up included. Arrivals that have their own duration keep it."""
        own_s = arrivals.parse(self.arrivals).duration_s if self.users is None else None
        return own_s or self.duration_s + (AUTO_WARMUP_S if self.warmup_s is None else self.warmup_s)


def execute(plan: Plan, watch: Watch | None = None) -> tuple[record.RunRecord, Columns]:
    """Look, calibrate, load, look again: the record and all raw rows.

    Raises Unusable when there is nothing to load, or nothing to load it with.
    """
    schedules = _schedules(plan)
    probe.reach(plan.target)
    limits = calibrate(plan) if plan.calibrate else None
    _check_rate(schedules, limits)
    env = environment.describe()
    found = ways.look(plan.target.host, plan.link_mbit, plan.calibrate) if plan.look else UNKNOWN
    metadata = probe.metadata(plan.target) if plan.look else None
    before = _stage_totals(plan)
    created = datetime.now(UTC)
    with _scraping(plan) as scraped:
        raws = load(plan, schedules, watch)
    told = {"stage_means_ms": probe.stage_means_ms(before, _stage_totals(plan))}
    return build(plan, raws, env, created, limits, metadata, told, scraped, found)


def _stage_totals(plan: Plan) -> dict[str, probe.StageTotals]:
    return probe.stage_totals(plan.target) if plan.look and plan.endpoint is None else {}


@contextmanager
def _scraping(plan: Plan) -> Iterator[Scraped | None]:
    """Look beside the load; not at a SageMaker endpoint, whose address is Amazon's and has none of our routes."""
    if plan.endpoint is not None or not plan.look:
        yield None
        return
    with scrape.scraping(plan.target) as scraped:
        yield scraped


def calibrate(plan: Plan) -> calibration.Calibration:
    """What the generator can do with the largest body of this load, in as many processes."""
    largest = max(plan.payload.payloads, key=lambda one: len(one.body))
    return calibration.calibrate(largest, plan.carrier, processes=plan.processes, engine_name=plan.engine)


def load(plan: Plan, schedules: Sequence[Schedule | None], watch: Watch | None = None) -> list[RawRun]:
    """Every repeat in turn; Ctrl-C ends the one it meets, and there is no next one."""
    raws = []
    for arrivals_of in schedules:
        raw = fleet.run(shot(plan, arrivals_of), _what(plan, arrivals_of), plan.processes, watch, plan.engine)
        raws.append(raw)
        if raw.interrupted:
            break
    return raws


def build(
    plan: Plan,
    raws: Sequence[RawRun],
    env: environment.Environment,
    created: datetime,
    limits: calibration.Calibration | None = None,
    metadata: dict[str, Any] | None = None,
    server: dict[str, dict[str, float]] | None = None,
    scraped: Scraped | None = None,
    known: Bandwidth = UNKNOWN,
) -> tuple[record.RunRecord, Columns]:
    """The record of a load that has happened, and its rows; computes, and touches nothing."""
    cut = repeats.cut(raws, plan.seed, plan.warmup_s, plan.total_s)
    columns = repeats.join(cut)
    told, window = repeats.window(cut, columns)
    verdict = validity.worst([validity.judge(one.raw, one.rows, one.cut_ns, plan.connections) for one in cut])
    stretches = tuple((one.start_s, one.end_s) for one in told.repeats)
    beside = host.build(scraped, raws[0].start_ns, stretches) if scraped is not None else None
    account = stages.join(window)
    bands = _bands(account)
    latency = outcome.latency(window, quantiles(plan), plan.timeout_s, verdict.ok)
    digest = hashlib.sha256(f"{created} {plan.command}".encode()).hexdigest()
    return record.RunRecord(
        id=f"{created:%Y%m%dT%H%M%SZ}-{digest[:8]}",
        created=created.isoformat(timespec="seconds"),
        tool=TOOL,
        command=plan.command,
        partial=any(raw.interrupted for raw in raws),
        abandoned=sum(raw.abandoned for raw in raws),
        target=record.TargetRecord(plan.target.url, plan.target.model, metadata),
        load=_load_record(plan),
        env=env,
        calibration=limits,
        validity=verdict,
        window=told,
        latency=latency,
        throughput=outcome.throughput(cut),
        errors=outcome.errors(raws, window),
        stages=_stages(account, bands),
        tail=_tail(bands),
        sentence=sentence.where_the_time_went(bands.get("p50"), bands.get("p99"), account.with_server),
        batches={str(size): count for size, count in stages.batch_sizes(account).items()},
        server=server or {},
        objective=_objective(plan, latency, window, sum(one.lasts_s for one in cut)),
        host=beside,
        explanation=explanation.explain(columns, window, _circumstances(plan, env, beside, stretches, limits, known)),
        link=known.link,
        memory=known.memory,
    ), columns


def _circumstances(
    plan: Plan,
    env: environment.Environment,
    beside: host.ServerTimeline | None,
    stretches: tuple[host.Span, ...],
    limits: calibration.Calibration | None,
    known: Bandwidth,
) -> explanation.Circumstances:
    here = beside is not None and beside.pid is not None
    return explanation.Circumstances(
        stretches=stretches,
        request_bytes=plan.payload.mean_bytes,
        cores=(env.quota_cores or env.cores) if here else None,
        host=beside,
        seed=plan.seed,
        loopback=transfer.Loopback(limits.body_bytes, limits.transfer_us)
        if limits is not None and limits.transfer_us is not None
        else None,
        link=known.link,
        memory=known.memory,
    )


def quantiles(plan: Plan) -> tuple[float, ...]:
    """Those of every record, and that of the objective."""
    asked = () if plan.objective is None else (plan.objective.quantile,)
    return tuple(sorted({*stages.QUANTILES, *asked}))


def shot(plan: Plan, arrivals_of: Schedule | None) -> Shot:
    """Where the load goes and what it carries. Raises Unusable for a trace that asks for unknown payloads."""
    renew = None
    if plan.endpoint is not None:
        renew = functools.partial(plan.endpoint.wires, plan.payload.payloads, plan.carrier)
        wires: tuple[Wire, ...] = renew()
    else:
        wires = tuple(render(plan.target, one, plan.carrier, plan.template) for one in plan.payload.payloads)
    choices = plan.payload.choices(plan.seed, CYCLE if arrivals_of is None else len(arrivals_of.offsets_ns))
    if arrivals_of is not None and any(arrivals_of.payload_names):
        choices = plan.payload.named(arrivals_of.payload_names, choices)
    return Shot(plan.target, wires, choices, plan.carrier, plan.timeout_s, plan.connections, renew)


def _schedules(plan: Plan) -> list[Schedule | None]:
    if plan.users is not None:
        return [None] * plan.repeats
    process = arrivals.parse(plan.arrivals)
    seeds = range(plan.seed, plan.seed + plan.repeats)
    return [schedule.build(process, plan.rate_per_s, plan.total_s, seed) for seed in seeds]


def _what(plan: Plan, arrivals_of: Schedule | None) -> Schedule | Callers:
    if arrivals_of is not None:
        return arrivals_of
    assert plan.users is not None
    return Callers(plan.users, plan.total_s)


def _check_rate(schedules: Sequence[Schedule | None], limits: calibration.Calibration | None) -> None:
    rate = max((one.rate_per_s for one in schedules if one is not None), default=0.0)
    if limits is not None and rate > limits.usable_rate_per_s:
        raise Unusable(
            f"the generator reaches {limits.ceiling_per_s:,.0f} requests/s here and can be trusted up to half of that: "
            f"lower --rate to {limits.usable_rate_per_s:,.0f}, or pass --skip-calibration and watch the send lag"
        )


def _load_record(plan: Plan) -> record.LoadRecord:
    body, is_open = plan.payload, plan.users is None
    rate = plan.rate_per_s
    if is_open and rate is None:
        rate = arrivals.parse(plan.arrivals).rate_per_s
    warmup_s = AUTO_WARMUP_S if plan.warmup_s is None else plan.warmup_s
    return record.LoadRecord(
        mode="open" if is_open else "closed",
        arrivals=plan.arrivals if is_open else None,
        rate_per_s=rate if is_open else None,
        users=plan.users,
        seed=plan.seed,
        duration_s=plan.total_s - warmup_s,
        warmup_s=warmup_s,
        timeout_s=plan.timeout_s,
        connections=plan.connections,
        carrier=plan.carrier.name,
        payload=record.PayloadRecord(body.name, body.content_type, body.sha256, round(body.mean_bytes)),
        payloads=tuple(
            record.PayloadRecord(one.name, one.content_type, one.sha256, len(one.body), weight)
            for one, weight in zip(body.payloads, body.weights, strict=True)
        ),
        engine=plan.engine,
        processes=plan.processes,
    )


def _objective(
    plan: Plan, latency: record.LatencyRecord, window: Columns, seconds: float
) -> record.ObjectiveRecord | None:
    if plan.objective is None:
        return None
    found = (latency.corrected or {}).get(objective.percentile_name(plan.objective.quantile))
    return objective.judge(plan.objective, found, window, seconds)


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
