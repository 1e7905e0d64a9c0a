"""``bench run``: one load, its record, its card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from .. import arguments
from ..exits import INTERRUPTED, INVALID, OK
from ..experiments.run import Plan, execute
from ..load import presets
from ..report import terminal as card
from ..result import record
from . import files, first

EPILOG = f"""\
examples:
  python -m bench run http://127.0.0.1:8080                       (probes it, climbs a ladder of rates, shows a card)
  python -m bench run http://127.0.0.1:8080 --payload request.json --rate 200 --duration 30 --repeat 5
  python -m bench run 127.0.0.1:8080/v2/models/digits/infer --payload generate:3 generate@16:1 --rate 50
  python -m bench run sagemaker:my-endpoint --payload request.json --arrivals steps:50x60,200x60 --objective p99:80ms

{presets.EPILOG}
{presets.NOTE}

Latency counts from the instant at which a request was intended to be sent, so that time spent waiting for a slow server
counts too. Exit status: 0 measured, 1 invalid, too many errors or objective missed, 2 not possible, 130 interrupted
(a partial result is printed)."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "run",
        help="load a server and explain its latency",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_request(command)
    load = command.add_mutually_exclusive_group()
    load.add_argument("--rate", type=arguments.positive, metavar="R", help="requests/s, whatever the server does")
    load.add_argument("--users", type=arguments.count, metavar="N", help="callers that wait for each answer")
    command.add_argument("--preset", choices=presets.PRESETS, help="a scenario of MLPerf Inference")
    arguments.add_arrivals(command)
    arguments.add_conditions(command, arguments.DEFAULT_DURATION_S, arguments.DEFAULT_WARMUP_S)
    command.add_argument(
        "--repeat", type=arguments.count, default=1, metavar="N", help="times, each with a new seed; 5 make intervals"
    )
    arguments.add_verdict(command)
    arguments.add_output(command, arguments.RUN_OUTPUT)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    arguments.check_directory(asked.junit)
    if asked.rate is None and asked.users is None and asked.preset is None and asked.arrivals is None:
        return first.run(asked, given)
    return measure(arguments.plan(asked, given), asked)


def measure(plan: Plan, asked: argparse.Namespace) -> int:
    """Run the plan and show what came of it; the exit status."""
    with arguments.progress(plan.total_s) as watch:
        result, columns = execute(plan, watch())
    files.write(asked, result, columns)
    if asked.json or not sys.stdout.isatty():
        sys.stdout.write(record.to_json(result).decode())
        for reason in result.validity.reasons:
            arguments.say(f"the run is invalid: {reason}")
    else:
        card.show(result, Console())
    return _status(result, asked.max_errors)


def _status(result: record.RunRecord, max_errors_percent: float | None) -> int:
    """The exit status, and a line on standard error for what neither card nor JSON says."""
    if result.partial:
        arguments.say("interrupted: the result is partial")
        return INTERRUPTED
    failed_percent = 100 * sum(one.share for one in result.errors)
    if max_errors_percent is not None and failed_percent > max_errors_percent:
        arguments.say(f"{failed_percent:.2f} % of requests failed, limit {max_errors_percent:g} %")
        return INVALID
    if result.window.steady is False:
        arguments.say("no steady state was found: latency was still changing in the second half of the run")
    if result.objective is not None and result.objective.state == "missed":
        arguments.say(
            f"objective missed: {result.objective.good_share:.2%} of requests were answered within "
            f"{result.objective.limit_ms:g} ms, {result.objective.goodput_per_s:,.1f}/s"
        )
        return INVALID
    return OK if result.validity.ok else INVALID
