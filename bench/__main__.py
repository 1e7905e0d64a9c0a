"""The command line of ``bench``: run a load, calibrate the generator, write a locust file."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from . import card, locustfile, record
from .errors import Unusable
from .load import calibration, payload, schedule, target
from .load.server_timing import CARRIERS
from .progress import ProgressLine
from .report import __main__ as report
from .run import Plan, execute

OK, INVALID, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
DESCRIPTION = "Load a model server over HTTP, and say where the time went."
RUN_EPILOG = """\
examples:
  python -m bench run http://127.0.0.1:8080 --payload request.json --rate 200 --duration 30
  python -m bench run 127.0.0.1:8080/v2/models/digits/infer --payload infer.json --users 8 --output run.json

Latency counts from the instant at which a request was intended to be sent, so that time spent waiting for a slow server
counts too. Exit status: 0 measured, 1 invalid or too many errors, 2 not possible, 130 interrupted (a partial result
is printed)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. Everything that the user can put right is one line on standard error."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "run":
            return _run(asked, sys.argv[1:] if arguments is None else arguments)
        if asked.command == "calibrate":
            return _calibrate(asked)
        return _locustfile(asked)
    except Unusable as error:
        print(f"bench: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("bench: interrupted before there was a result", file=sys.stderr)
        return INTERRUPTED


def _run(asked: argparse.Namespace, arguments: Sequence[str]) -> int:
    plan = _plan(asked, arguments)
    if asked.output is not None and not asked.output.parent.is_dir():
        raise Unusable(f"there is no directory {str(asked.output.parent)!r} for the result")
    if asked.output is not None and asked.output == record.raw_path(asked.output):
        raise Unusable("the result is JSON, and its raw rows lie beside it as .npz: name the output FILE.json")
    progress = ProgressLine(sys.stderr, plan.warmup_s + plan.duration_s) if sys.stderr.isatty() else None
    try:
        result, raw = execute(plan, progress)
    finally:
        if progress is not None:
            progress.clear()
    if asked.output is not None:
        record.write(asked.output, result, raw.columns)
        report.write([asked.output], asked.output.with_suffix(".html"))
    if asked.json or not sys.stdout.isatty():
        sys.stdout.write(record.to_json(result).decode())
        for reason in result.validity.reasons:
            print(f"bench: the run is invalid: {reason}", file=sys.stderr)
    else:
        card.show(result, Console())
    return _status(result, asked.max_errors)


def _status(result: record.RunRecord, max_errors_percent: float | None) -> int:
    """The exit status, and a line on standard error for what neither card nor JSON says."""
    if result.partial:
        print("bench: interrupted: the result is partial", file=sys.stderr)
        return INTERRUPTED
    failed_percent = 100 * sum(one.share for one in result.errors)
    if max_errors_percent is not None and failed_percent > max_errors_percent:
        print(f"bench: {failed_percent:.2f} % of requests failed, limit {max_errors_percent:g} %", file=sys.stderr)
        return INVALID
    return OK if result.validity.ok else INVALID


def _plan(asked: argparse.Namespace, arguments: Sequence[str]) -> Plan:
    if asked.users is not None and asked.users > asked.connections:
        raise Unusable(f"{asked.users} users need as many connections: raise --connections from {asked.connections}")
    return Plan(
        target=target.parse(asked.url),
        payload=payload.read(asked.payload, asked.content_type),
        rate_per_s=asked.rate,
        users=asked.users,
        arrivals=asked.arrivals,
        duration_s=asked.duration,
        warmup_s=asked.warmup,
        seed=asked.seed,
        timeout_s=asked.timeout,
        connections=asked.connections,
        carrier=CARRIERS[asked.carrier],
        calibrate=not asked.skip_calibration,
        command=shlex.join(["python", "-m", "bench", *arguments]),
    )


def _calibrate(asked: argparse.Namespace) -> int:
    body = (
        payload.read(asked.payload)
        if asked.payload
        else payload.Payload("64 zeros", "application/json", b"[" + b"0," * 63 + b"0]")
    )
    found = calibration.calibrate(body, seconds=asked.seconds)
    print(
        f"floor     {found.floor_us:,.0f} us   median latency of one caller: no server can look faster than this here"
    )
    print(f"ceiling   {found.ceiling_per_s:,.0f}/s   32 callers, the echo server on the same machine")
    print(f"usable    {found.usable_rate_per_s:,.0f}/s   half of it: above this the generator queues")
    return OK


def _locustfile(asked: argparse.Namespace) -> int:
    text = locustfile.render(
        target.parse(asked.url), asked.payload, asked.content_type, asked.rate, asked.arrivals, asked.seed
    )
    if asked.output is None:
        sys.stdout.write(text)
        return OK
    try:
        # "x": it is meant to be edited, so it must never be overwritten.
        with asked.output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Unusable(f"cannot write {str(asked.output)!r}: {error.strerror or error}") from error
    print(f"Written. Run it: locust -f {shlex.quote(str(asked.output))} --headless -u 1 -t 30s", file=sys.stderr)
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_locustfile(commands)
    command = commands.add_parser("calibrate", help="what the generator itself can do on this machine")
    command.add_argument("--payload", type=Path, metavar="FILE", help="request body (default: a small JSON array)")
    command.add_argument("--seconds", type=_positive, default=3.0, help="how long to measure (default: %(default)s)")
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "run",
        help="load a server and explain its latency",
        epilog=RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_request(command)
    load = command.add_mutually_exclusive_group(required=True)
    load.add_argument(
        "--rate", type=_positive, metavar="R", help="requests/s, sent whatever the server does (open loop)"
    )
    load.add_argument("--users", type=_count, metavar="N", help="callers that wait for each answer (closed loop)")
    _add_arrivals(command)
    command.add_argument("--duration", type=_positive, default=30.0, metavar="S", help="seconds measured (default: 30)")
    command.add_argument("--warmup", type=_not_negative, default=2.0, metavar="S", help="seconds before (default: 2)")
    command.add_argument(
        "--timeout", type=_positive, default=10.0, metavar="S", help="from the intended instant (default: 10)"
    )
    command.add_argument("--connections", type=_count, default=256, metavar="N", help="at most (default: %(default)s)")
    command.add_argument(
        "--carrier",
        choices=CARRIERS,
        default="header",
        help="how stage times come back; custom-attributes passes SageMaker",
    )
    command.add_argument(
        "--max-errors", type=_not_negative, metavar="PERCENT", help="exit with 1 when more requests fail"
    )
    command.add_argument(
        "--skip-calibration", action="store_true", help="start at once, without the second of echo load"
    )
    command.add_argument(
        "--output", type=Path, metavar="FILE.json", help="write the result here, raw rows beside it as .npz"
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON (always so when piped)")


def _add_locustfile(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("locustfile", help="print a locust file for the same load, to edit")
    _add_request(command)
    command.add_argument(
        "--rate", type=_positive, default=100.0, metavar="R", help="requests/s per locust user (default: 100)"
    )
    _add_arrivals(command)
    command.add_argument("--output", type=Path, metavar="FILE.py", help="write it here instead")


def _add_request(command: argparse.ArgumentParser) -> None:
    command.add_argument("url", metavar="URL", help="the server; /invocations is meant where no path is given")
    command.add_argument("--payload", type=Path, required=True, metavar="FILE", help="request body, sent as it is")
    command.add_argument("--content-type", metavar="TYPE", help="default: from the payload's suffix")


def _add_arrivals(command: argparse.ArgumentParser) -> None:
    command.add_argument("--arrivals", choices=schedule.ARRIVALS, default="poisson", help="default: %(default)s")
    command.add_argument("--seed", type=int, default=1, help="of the arrivals (default: %(default)s)")


def _positive(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text}")
    return number


def _not_negative(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"must be zero or a positive number, not {text}")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        # The reader of a pipe left (| head). Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(INVALID)
