"""A run: one load, once or repeated, from its configuration to its record."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from ..errors import Unusable
from ..load import arrivals, burst, calibration, fleet, probe, schedule
from ..load.burst import Burst
from ..load.callers import Callers
from ..load.payload import JSON
from ..load.payload_set import CYCLE
from ..load.raw_run import RawRun, Watch
from ..load.schedule import Schedule
from ..load.shot import Shot
from ..load.wire import Wire, render
from ..observe import bandwidth, environment, json_cost, scrape, tree
from ..observe.scrape import Scraped
from ..result import explained
from ..result.record import RunRecord, measured
from ..result.repeats import Columns
from . import abilities
from .config import RunConfig
from .recording import Surroundings, build


def execute(config: RunConfig, watch: Watch | None = None) -> tuple[RunRecord, Columns]:
    """Run one load, and return its record and all raw rows, int64 [n] by column.

    ``watch``: gets snapshots for a progress line. Raises Unusable if the server cannot be reached, or if the generator
    cannot send at this rate.
    """
    schedules = _schedules(config)
    probe.reach(config.target)
    limits = calibrate(config) if config.calibrate else None
    _check_rate(schedules, limits)
    env = environment.describe()
    bandwidths = bandwidth.UNKNOWN
    if config.observe:
        bandwidths = bandwidth.look(config.target.host, config.link_mbit, config.calibrate)
    metadata = probe.metadata(config.target) if config.observe else None
    totals_before = _stage_totals(config)
    created = datetime.now(UTC)
    with _scraping(config) as scraped:
        raws = load(config, schedules, watch)
    server = {"stage_means_ms": probe.stage_means_ms(totals_before, _stage_totals(config))}
    surroundings = Surroundings(env, limits, metadata, server, scraped, bandwidths, _json_ms(config))
    result, columns = build(config, raws, created, surroundings)
    if config.burst and config.endpoint is None and not result.partial:
        result = replace(result, burst=burst_of(config))
    if config.endpoint is None and config.observe:
        result = abilities.with_testable(result, columns)
    return judged(result, columns), columns


def burst_of(config: RunConfig) -> Burst | None:
    """Probe the server with a few requests at once. Their body is the one of median size. It takes some seconds."""
    ordered = sorted(config.payload.payloads, key=lambda body: len(body.body))
    wire = render(config.target, ordered[len(ordered) // 2], config.carrier, config.template)
    work = tree.work_of(scrape.processes(config.target))
    return burst.probe(config.target, wire, config.timeout_s, work)


def judged(result: RunRecord, columns: Columns) -> RunRecord:
    """The record with its verdict."""
    is_measured = measured(columns, result.window.repeats)
    window = {name: values[is_measured] for name, values in columns.items()}
    return replace(result, verdict=explained.verdict_of(result, columns, window))


def _check_rate(schedules: Sequence[Schedule | None], limits: calibration.Calibration | None) -> None:
    """Raises Unusable for a rate above the ceiling of the generator: unsent requests would only fill its memory.

    Above half of the ceiling the run is measured, and its validity is judged by the lag of the generator.
    """
    rate = max((one.rate_per_s for one in schedules if one is not None), default=0.0)
    if limits is not None and rate > limits.ceiling_per_s:
        raise Unusable(
            f"the generator reaches {limits.ceiling_per_s:,.0f} requests/s here and is reliable up to half of that: "
            f"lower --rate to {limits.usable_rate_per_s:,.0f}, or pass --skip-calibration and watch the send lag"
        )


def _json_ms(config: RunConfig) -> float | None:
    """The time to parse the largest JSON body in ms; None without a JSON body."""
    bodies = [body for body in config.payload.payloads if body.content_type == JSON]
    return json_cost.read_ms(max(bodies, key=lambda body: len(body.body)).body) if bodies else None


def _stage_totals(config: RunConfig) -> dict[str, probe.StageTotals]:
    return probe.stage_totals(config.target) if config.observe and config.endpoint is None else {}


@contextmanager
def _scraping(config: RunConfig) -> Iterator[Scraped | None]:
    """Scrape the server during the block; None for a SageMaker endpoint, whose address lacks the server's routes."""
    if config.endpoint is not None or not config.observe:
        yield None
        return
    with scrape.scraping(config.target) as scraped:
        yield scraped


def calibrate(config: RunConfig) -> calibration.Calibration:
    """The limits of the generator, with the largest body, the processes and the engine of this load."""
    largest = max(config.payload.payloads, key=lambda body: len(body.body))
    return calibration.calibrate(largest, config.carrier, processes=config.processes, engine_name=config.engine)


def load(config: RunConfig, schedules: Sequence[Schedule | None], watch: Watch | None = None) -> list[RawRun]:
    """Run all repeats in turn. Ctrl-C ends the current repeat and skips the others."""
    raws = []
    for arrival_schedule in schedules:
        work = _work(config, arrival_schedule)
        raw = fleet.run(shot(config, arrival_schedule), work, config.processes, watch, config.engine)
        raws.append(raw)
        if raw.interrupted:
            break
    return raws


def shot(config: RunConfig, arrival_schedule: Schedule | None) -> Shot:
    """The target and the encoded requests of a load. Raises Unusable for a trace that names unknown payloads."""
    payload, renew = config.payload, None
    if config.endpoint is not None:
        renew = functools.partial(config.endpoint.wires, payload.payloads, config.carrier)
        wires: tuple[Wire, ...] = renew()
    else:
        wires = tuple(render(config.target, body, config.carrier, config.template) for body in payload.payloads)
    choices = payload.choices(config.seed, CYCLE if arrival_schedule is None else len(arrival_schedule.offsets_ns))
    if arrival_schedule is not None and any(arrival_schedule.payload_names):
        choices = payload.named(arrival_schedule.payload_names, choices)
    return Shot(
        config.target, wires, choices, config.carrier, config.timeout_s, config.connections, renew, config.spare
    )


def _schedules(config: RunConfig) -> list[Schedule | None]:
    """One schedule per repeat; None for each repeat of a closed loop."""
    if config.users is not None:
        return [None] * config.repeats
    process = arrivals.parse(config.arrivals)
    seeds = range(config.seed, config.seed + config.repeats)
    return [schedule.build(process, config.rate_per_s, config.total_s, seed) for seed in seeds]


def _work(config: RunConfig, arrival_schedule: Schedule | None) -> Schedule | Callers:
    if arrival_schedule is not None:
        return arrival_schedule
    assert config.users is not None
    return Callers(config.users, config.total_s)
