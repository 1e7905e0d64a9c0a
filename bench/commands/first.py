"""``bench run`` without a rate: calibrate, run at rising rates for half a minute, print a result card."""

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
SINGLE_CALLER_S = 1.0
Measured = tuple[record.RunRecord, Columns]
"""A run and all its raw rows."""


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run at each rate in turn, then print and write the result; return the exit status."""
    config = arguments.run_config(args, argv, default_duration_s=RUNG_S)
    probes_burst = config.burst
    config = replace(config, warmup_s=RUNG_WARMUP_S, burst=False)
    arguments.say(f"no rate was given: a ladder of {RUNGS} rates, {RUNGS * config.total_s:.0f} s")
    probe.reach(config.target)
    limits = calibrate(config) if config.calibrate else None
    rates = _rates(config, limits)
    measured: list[Measured] = []

    def keep(result: record.RunRecord, columns: Columns) -> None:
        measured.append((replace(result, calibration=limits), columns))
        offered = result.throughput.offered_per_s or 0.0
        arguments.say(f"{offered:,.0f}/s offered, {result.throughput.goodput_per_s:,.0f}/s answered")

    early_status = OK
    with arguments.progress(config.total_s) as watch:
        try:
            rungs = ladder.climb(sweep.runner(config, watch, keep), rates)
        except (KeyboardInterrupt, Unusable) as error:
            if not measured:
                raise
            rungs = [ladder.rung(result) for result, _ in measured]
            early_status = arguments.ended_early(error, "the ladder is partial")
    curve = sweep.summary(datetime.now(UTC).isoformat(timespec="seconds"), config.command, config.target.url, rungs)
    chosen, columns = _highest_unsaturated(measured)
    if probes_burst and not early_status:
        chosen = judged(abilities.with_testable(replace(chosen, burst=burst_of(config)), columns), columns)
    if args.confirm and not early_status:
        chosen = explain.confirmed(chosen, columns)
    if arguments.prints_json(args):
        sys.stdout.write(sweep.to_json({"sweep": curve, "run": chosen}).decode())
        for reason in chosen.validity.reasons:
            arguments.say(f"the run is invalid: {reason}")
    else:
        console = terminal.console()
        console.print(sweep.table(curve))
        terminal.show(chosen, console)
    files.write(args, chosen, columns)
    failed_percent = 100 * sum(one.share for one in chosen.errors)
    if failed_percent > args.max_errors:
        arguments.say(f"{failed_percent:.2f} % of requests failed: see the errors")
        return early_status or INVALID
    return early_status or (OK if chosen.validity.ok else INVALID)


def _rates(config: RunConfig, calibrated: calibration.Calibration | None) -> tuple[float, ...]:
    """The rates of the ladder, from the rate of one caller in a closed loop.

    Raises Unusable if that caller got no successful response.
    """
    result, _ = execute(
        replace(
            config, users=1, rate_per_s=None, duration_s=SINGLE_CALLER_S, warmup_s=0.2, calibrate=False, observe=False
        )
    )
    if not result.throughput.goodput_per_s:
        reason = "; ".join(f"{one.kind}: {one.message}" for one in result.errors[:1]) or result.validity.reasons[0]
        raise Unusable(f"a single caller got no successful response ({reason}): check the URL and the payload")
    ceiling = calibrated.usable_rate_per_s if calibrated is not None else float("inf")
    return ladder.first_rates(1e3 / result.throughput.goodput_per_s, ceiling, RUNGS)


def _highest_unsaturated(measured: Sequence[Measured]) -> Measured:
    """The run at the highest unsaturated rate, or the first run. The tail of a saturated server is only its queue."""
    steady = [one for one in measured if one[0].validity.ok and not ladder.rung(one[0]).saturated]
    return steady[-1] if steady else measured[0]
