"""``bench run``: one load, its record and its result card."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import arguments
from ..exits import INTERRUPTED, INVALID, OK
from ..experiments.config import RunConfig
from ..experiments.run import execute
from ..load import presets
from ..report import terminal
from ..result import record
from . import explain, files, first

EPILOG = f"""\
examples:
  python -m bench run http://127.0.0.1:8080                       (climbs a ladder of rates, shows a card)
  python -m bench run http://127.0.0.1:8080 --payload request.json --rate 200 --duration 30 --repeat 5
  python -m bench run 127.0.0.1:8080/v2/models/digits/infer --payload generate:3 generate@16:1 --rate 50
  python -m bench run sagemaker:my-endpoint --payload request.json --arrivals steps:50x60,200x60 --objective p99:80ms

{presets.EPILOG}
{presets.NOTE}

Latency counts from the intended instant of a request, so that it includes the wait for a slow server. Exit status:
0 measured, 1 invalid, more than 1 % of requests failed (--max-errors) or objective missed, 2 wrong usage,
130 interrupted (prints a partial result)."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = arguments.add_described(commands, "run", "load a server and explain its latency", EPILOG)
    arguments.add_request(command)
    load = command.add_mutually_exclusive_group()
    load.add_argument("--rate", type=arguments.positive, metavar="R", help="requests/s of an open loop")
    load.add_argument("--users", type=arguments.count, metavar="N", help="callers of a closed loop")
    command.add_argument("--preset", choices=presets.PRESETS, help="a scenario of MLPerf Inference")
    arguments.add_arrivals(command)
    arguments.add_conditions(command, arguments.DEFAULT_DURATION_S, arguments.DEFAULT_WARMUP_S)
    command.add_argument(
        "--repeat",
        type=arguments.count,
        default=1,
        metavar="N",
        help="repeats, each with a new seed; 3 or more give intervals",
    )
    command.add_argument(
        "--no-burst", action="store_true", help="skip the probe after the load, which sends up to 8 requests at once"
    )
    arguments.add_verdict(command)
    explain.add_confirm(command)
    arguments.add_output(command, arguments.RUN_OUTPUT, card=True)
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, argv: Sequence[str]) -> int:
    arguments.check_output(args.output)
    arguments.check_directory(args.junit)
    if args.rate is None and args.users is None and args.preset is None and args.arrivals is None:
        return first.run(args, argv)
    return measure(arguments.run_config(args, argv), args)


def measure(config: RunConfig, args: argparse.Namespace) -> int:
    """Run the load, print and write its result, and return the exit status."""
    with arguments.progress(config.total_s) as watch:
        result, columns = execute(config, watch())
    if getattr(args, "confirm", False) and not result.partial:
        result = explain.confirmed(result, columns)
    if arguments.prints_json(args):
        sys.stdout.write(result.to_json().decode())
        for reason in result.validity.reasons:
            arguments.say(f"the run is invalid: {reason}")
    else:
        terminal.show(result, terminal.console())
    # After the output: a full disk must not lose the result.
    files.write(args, result, columns)
    return _status(result, args.max_errors)


def _status(result: record.RunRecord, max_errors_percent: float) -> int:
    """The exit status; its reason is printed on standard error."""
    if result.partial:
        arguments.say("interrupted: the result is partial")
        return INTERRUPTED
    failed_percent = 100 * sum(one.share for one in result.errors)
    if failed_percent > max_errors_percent:
        most_frequent = result.errors[0]
        arguments.say(
            f"{failed_percent:.2f} % of requests failed, limit {max_errors_percent:g} % (--max-errors); most often "
            f"{most_frequent.kind}: {most_frequent.message or most_frequent.code or 'no message'}"
        )
        return INVALID
    if result.window.steady is False:
        arguments.say("no steady state was found: latency was still changing in the second half of the run")
    if result.objective is not None and result.objective.state == "missed":
        arguments.say(
            f"objective missed: {result.objective.good_share:.2%} of requests succeeded within "
            f"{result.objective.limit_ms:g} ms, {result.objective.goodput_per_s:,.1f}/s"
        )
        return INVALID
    return OK if result.validity.ok else INVALID
