"""The first run, with a URL alone: calibrate, climb a ladder of rates for half a minute, show a result card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from .. import arguments
from ..errors import Unusable
from ..exits import INVALID, OK
from ..experiments import abilities, ladder, sweep
from ..experiments.config import RunConfig
from ..experiments.run import burst_of, calibrate, execute, judged
from ..load import calibration, probe
from ..report import terminal
from ..result import record
from ..result.repeats import Columns
from . import explain, files

RUNGS = 6
RUNG_S = 4.0
RUNG_WARMUP_S = 0.5
ALONE_S = 1.0
Kept = tuple[record.RunRecord, Columns]


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    """Climb the ladder, then print and write the result; return the exit status."""
    config = arguments.run_config(asked, given, default_duration_s=RUNG_S)
    with_burst = config.burst
    config = replace(config, warmup_s=RUNG_WARMUP_S, burst=False)
    arguments.say(f"no rate was given: a ladder of {RUNGS} rates, {RUNGS * config.total_s:.0f} s")
    probe.reach(config.target)
    limits = calibrate(config) if config.calibrate else None
    rates = _rates(config, limits)
    kept: list[Kept] = []

    def keep(result: record.RunRecord, columns: Columns) -> None:
        kept.append((replace(result, calibration=limits), columns))
        offered = result.throughput.offered_per_s or 0.0
        arguments.say(f"{offered:,.0f}/s offered, {result.throughput.goodput_per_s:,.0f}/s answered")

    early = OK
    with arguments.progress(config.total_s) as watch:
        try:
            rungs = ladder.climb(sweep.runner(config, watch, keep), rates)
        except (KeyboardInterrupt, Unusable) as why:
            if not kept:
                raise
            rungs, early = (
                [ladder.rung(result) for result, _ in kept],
                arguments.ended_early(why, "the ladder is partial"),
            )
    found = sweep.summary(datetime.now(UTC).isoformat(timespec="seconds"), config.command, config.target.url, rungs)
    best, columns = _best(kept)
    if with_burst and not early:
        best = judged(abilities.with_testable(replace(best, burst=burst_of(config)), columns), columns)
    if asked.confirm and not early:
        best = explain.confirmed(best, columns)
    if arguments.prints_json(asked):
        sys.stdout.write(sweep.to_json({"sweep": found, "run": best}).decode())
        for reason in best.validity.reasons:
            arguments.say(f"the run is invalid: {reason}")
    else:
        console = terminal.console()
        console.print(sweep.table(found))
        terminal.show(best, console)
    files.write(asked, best, columns)
    failed_percent = 100 * sum(one.share for one in best.errors)
    if failed_percent > asked.max_errors:
        arguments.say(f"{failed_percent:.2f} % of requests failed: see the errors")
        return early or INVALID
    return early or (OK if best.validity.ok else INVALID)


def _rates(config: RunConfig, limits: calibration.Calibration | None) -> tuple[float, ...]:
    """The rates of the ladder, around the rate of one caller in a closed loop. Raises Unusable if it got no answer."""
    alone, _ = execute(
        replace(config, users=1, rate_per_s=None, duration_s=ALONE_S, warmup_s=0.2, calibrate=False, observe=False)
    )
    if not alone.throughput.goodput_per_s:
        why = "; ".join(f"{one.kind}: {one.message}" for one in alone.errors[:1]) or alone.validity.reasons[0]
        raise Unusable(f"a single caller got no successful response ({why}): check the URL and the payload")
    ceiling = limits.usable_rate_per_s if limits is not None else float("inf")
    return ladder.first_rates(1e3 / alone.throughput.goodput_per_s, ceiling, RUNGS)


def _best(kept: Sequence[Kept]) -> Kept:
    """The run at the highest rate without saturation, because the tail of a saturated server is only its queue."""
    steady = [one for one in kept if one[0].validity.ok and not ladder.rung(one[0]).saturated]
    return steady[-1] if steady else kept[0]
