"""The first run, of which only the URL is known: look, calibrate, climb a ladder for half a minute, show a card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from .. import arguments
from ..errors import Unusable
from ..exits import INVALID, OK
from ..experiments import ladder, sweep
from ..experiments.run import Plan, calibrate, execute
from ..load import calibration, probe
from ..report import terminal as card
from ..result import record
from ..result.repeats import Columns
from . import files

RUNGS = 6
RUNG_S = 4.0
RUNG_WARMUP_S = 0.5
ALONE_S = 1.0
Kept = tuple[record.RunRecord, Columns]


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    plan = arguments.plan(asked, given, default_duration_s=RUNG_S)
    plan = replace(plan, warmup_s=RUNG_WARMUP_S)
    arguments.say(f"no rate was given: a ladder of {RUNGS} rates, {RUNGS * plan.total_s:.0f} s")
    probe.reach(plan.target)
    limits = calibrate(plan) if plan.calibrate else None
    rates = _rates(plan, limits)
    kept: list[Kept] = []

    def keep(result: record.RunRecord, columns: Columns) -> None:
        kept.append((replace(result, calibration=limits), columns))
        offered = result.throughput.offered_per_s or 0.0
        arguments.say(f"{offered:,.0f}/s offered, {result.throughput.goodput_per_s:,.0f}/s answered")

    early = OK
    with arguments.progress(plan.total_s) as watch:
        try:
            rungs = ladder.climb(sweep.runner(plan, watch, keep), rates)
        except (KeyboardInterrupt, Unusable) as why:
            if not kept:
                raise
            rungs, early = (
                [ladder.rung(result) for result, _ in kept],
                arguments.ended_early(why, "the ladder is partial"),
            )
    found = sweep.summary(datetime.now(UTC).isoformat(timespec="seconds"), plan.command, plan.target.url, rungs)
    best, columns = _best(kept)
    files.write(asked, best, columns)
    if asked.json or not sys.stdout.isatty():
        sys.stdout.write(sweep.to_json({"sweep": found, "run": best}).decode())
        for reason in best.validity.reasons:
            arguments.say(f"the run is invalid: {reason}")
    else:
        console = Console()
        console.print(sweep.table(found))
        card.show(best, console)
    return early or (OK if best.validity.ok else INVALID)


def _rates(plan: Plan, limits: calibration.Calibration | None) -> tuple[float, ...]:
    """Around what one caller gets, who waits for each answer."""
    alone, _ = execute(
        replace(plan, users=1, rate_per_s=None, duration_s=ALONE_S, warmup_s=0.2, calibrate=False, look=False)
    )
    if not alone.throughput.goodput_per_s or alone.latency.corrected is None:
        why = "; ".join(f"{one.kind}: {one.message}" for one in alone.errors[:1]) or alone.validity.reasons[0]
        raise Unusable(f"one caller alone got no answer that counts ({why})")
    ceiling = limits.usable_rate_per_s if limits is not None else float("inf")
    return ladder.first_rates(1e3 / alone.throughput.goodput_per_s, ceiling, RUNGS)


def _best(kept: Sequence[Kept]) -> Kept:
    """The highest rate that was kept up with, since the tail of a saturated server is only its queue."""
    calm = [one for one in kept if one[0].validity.ok and not ladder.rung(one[0]).saturated]
    return calm[-1] if calm else kept[0]
