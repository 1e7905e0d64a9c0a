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
    """Probe, calibrate, load, probe again, judge: the record and all raw rows.

    Raises Unusable if the server cannot be reached, or if the generator cannot send at this rate.
    """
    schedules = _schedules(config)
    probe.reach(config.target)
    limits = calibrate(config) if config.calibrate else None
    _check_rate(schedules, limits)
    env = environment.describe()
    known = bandwidth.UNKNOWN
    if config.observe:
        known = bandwidth.look(config.target.host, config.link_mbit, config.calibrate)
    metadata = probe.metadata(config.target) if config.observe else None
    before = _stage_totals(config)
    created = datetime.now(UTC)
    with _scraping(config) as scraped:
        raws = load(config, schedules, watch)
    server = {"stage_means_ms": probe.stage_means_ms(before, _stage_totals(config))}
    surroundings = Surroundings(env, limits, metadata, server, scraped, known, _json_ms(config))
    found, columns = build(config, raws, created, surroundings)
    if config.burst and config.endpoint is None and not found.partial:
        found = replace(found, burst=burst_of(config))
    if config.endpoint is None and config.observe:
        found = abilities.with_testable(found, columns)
    return judged(found, columns), columns


def burst_of(config: RunConfig) -> Burst | None:
    """Probe the server with the middle one of the payloads. It takes some seconds."""
    ordered = sorted(config.payload.payloads, key=lambda one: len(one.body))
    wire = render(config.target, ordered[len(ordered) // 2], config.carrier, config.template)
    work = tree.work_of(scrape.processes(config.target))
    return burst.probe(config.target, wire, config.timeout_s, work)


def judged(found: RunRecord, columns: Columns) -> RunRecord:
    """The record with its verdict."""
    inside = measured(columns, found.window.repeats)
    window = {name: values[inside] for name, values in columns.items()}
    return replace(found, verdict=explained.verdict_of(found, columns, window))


def _check_rate(schedules: Sequence[Schedule | None], limits: calibration.Calibration | None) -> None:
    """A rate above half of the ceiling is a verdict on the generator; one above the ceiling would only fill memory."""
    rate = max((one.rate_per_s for one in schedules if one is not None), default=0.0)
    if limits is not None and rate > limits.ceiling_per_s:
        raise Unusable(
            f"the generator reaches {limits.ceiling_per_s:,.0f} requests/s here and is reliable up to half of that: "
            f"lower --rate to {limits.usable_rate_per_s:,.0f}, or pass --skip-calibration and watch the send lag"
        )


def _json_ms(config: RunConfig) -> float | None:
    bodies = [one for one in config.payload.payloads if one.content_type == JSON]
    return json_cost.read_ms(max(bodies, key=lambda one: len(one.body)).body) if bodies else None


def _stage_totals(config: RunConfig) -> dict[str, probe.StageTotals]:
    return probe.stage_totals(config.target) if config.observe and config.endpoint is None else {}


@contextmanager
def _scraping(config: RunConfig) -> Iterator[Scraped | None]:
    """Scrape beside the load. The address of a SageMaker endpoint is Amazon's and has none of the server's routes."""
    if config.endpoint is not None or not config.observe:
        yield None
        return
    with scrape.scraping(config.target) as scraped:
        yield scraped


def calibrate(config: RunConfig) -> calibration.Calibration:
    """The limits of the generator with the largest body of this load, in as many processes."""
    largest = max(config.payload.payloads, key=lambda one: len(one.body))
    return calibration.calibrate(largest, config.carrier, processes=config.processes, engine_name=config.engine)


def load(config: RunConfig, schedules: Sequence[Schedule | None], watch: Watch | None = None) -> list[RawRun]:
    """Every repeat in turn. Ctrl-C ends the current repeat, and no further one starts."""
    raws = []
    for arrivals_of in schedules:
        work = _work(config, arrivals_of)
        raw = fleet.run(shot(config, arrivals_of), work, config.processes, watch, config.engine)
        raws.append(raw)
        if raw.interrupted:
            break
    return raws


def shot(config: RunConfig, arrivals_of: Schedule | None) -> Shot:
    """The target and the bytes of a load. Raises Unusable for a trace that names unknown payloads."""
    payload, renew = config.payload, None
    if config.endpoint is not None:
        renew = functools.partial(config.endpoint.wires, payload.payloads, config.carrier)
        wires: tuple[Wire, ...] = renew()
    else:
        wires = tuple(render(config.target, one, config.carrier, config.template) for one in payload.payloads)
    choices = payload.choices(config.seed, CYCLE if arrivals_of is None else len(arrivals_of.offsets_ns))
    if arrivals_of is not None and any(arrivals_of.payload_names):
        choices = payload.named(arrivals_of.payload_names, choices)
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


def _work(config: RunConfig, arrivals_of: Schedule | None) -> Schedule | Callers:
    if arrivals_of is not None:
        return arrivals_of
    assert config.users is not None
    return Callers(config.users, config.total_s)
