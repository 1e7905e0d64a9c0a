"""``bench sweep``: latency over offered load, one rate after another."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console

from .. import arguments
from ..errors import Unusable
from ..exits import INVALID, OK
from ..experiments import ladder, sweep
from ..experiments.run import execute
from ..load import probe
from ..report import checks, junit
from ..result.record import RunRecord
from ..result.repeats import Columns

RUNG_S = 10.0


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("sweep", help="latency over several rates, or over several numbers of users")
    arguments.add_request(command)
    steps = command.add_mutually_exclusive_group(required=True)
    steps.add_argument("--rates", metavar="50..800x5", help="requests/s: 50,100,200, or five in equal ratios")
    steps.add_argument("--users", dest="callers", metavar="1,2,4", help="callers of a closed loop")
    arguments.add_arrivals(command)
    arguments.add_conditions(command, RUNG_S, 1.0)
    arguments.add_output(command)
    arguments.add_junit(command)
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    arguments.check_output(args.output)
    arguments.check_directory(args.junit)
    config = replace(arguments.run_config(args, argv, RUNG_S), observe=False)
    steps = ladder.rates(args.rates or args.callers)
    probe.reach(config.target)
    rungs: list[ladder.Rung] = []
    status, early_reason = OK, None

    def keep(record: RunRecord, _columns: Columns) -> None:
        rung = ladder.rung(record)
        rungs.append(rung)
        arguments.say(f"{len(rungs)} of {len(steps)}: {rung.goodput_per_s:,.0f}/s answered")

    with arguments.progress(config.total_s) as watch:
        try:
            if args.rates is not None:
                rungs = ladder.climb(sweep.runner(config, watch, keep), steps)
            else:
                for users in steps:
                    keep(*execute(replace(config, users=round(users), calibrate=False), watch()))
        except (KeyboardInterrupt, Unusable) as error:
            if not rungs:
                raise
            status, early_reason = arguments.ended_early(error, "the curve is partial"), str(error) or "interrupted"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    result = sweep.summary(created, config.command, config.target.url, rungs)
    arguments.give(args, result, lambda: Console().print(sweep.table(result)))
    if args.junit is not None:
        junit.write(args.junit, f"bench sweep {config.target.url}", checks.of_sweep(rungs, len(steps), early_reason))
    if status == OK and not any(one.latency for one in rungs):
        arguments.say(f"no rate gave a result: {rungs[-1].errors or '; '.join(rungs[-1].reasons)}")
        return INVALID
    return status
