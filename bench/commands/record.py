"""``bench record`` and ``bench replay``: a trace from an access log, and the same arrivals again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import arguments
from ..errors import Unusable
from ..exits import OK
from ..load import access_log, trace
from . import explain, run


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("record", help="turn an access log into a trace")
    command.add_argument("log", type=Path, metavar="LOG", help="of Slipway, nginx or Apache, or JSON lines")
    command.add_argument("--path", metavar="PREFIX", help="only requests whose path begins so")
    command.add_argument("--output", type=Path, required=True, metavar="FILE.trace")
    command.set_defaults(execute=record)
    add_replay(commands)


def add_replay(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    """Add ``bench replay``."""
    command = commands.add_parser("replay", help="send a trace's arrivals again")
    command.add_argument("trace", type=Path, metavar="TRACE")
    arguments.add_request(command)
    command.add_argument("--speed", type=arguments.positive, default=1.0, metavar="X", help="2: twice as fast")
    arguments.add_conditions(command, arguments.DEFAULT_DURATION_S, 0.0)
    arguments.add_verdict(command)
    explain.add_confirm(command)
    arguments.add_output(command, arguments.RUN_OUTPUT, card=True)
    command.set_defaults(execute=replay)


def record(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    try:
        with args.log.open(encoding="utf-8", errors="replace") as file:
            log = access_log.read(file, args.path)
    except OSError as error:
        raise Unusable(f"cannot read the log {str(args.log)!r}: {error.strerror or error}") from error
    new_trace = trace.make(args.log.name, log.arrivals)
    trace.write(args.output, new_trace)
    arguments.say(f"{len(log.arrivals):,} requests in {new_trace.duration_s:,.1f} s, {new_trace.rate_per_s:,.1f}/s")
    if log.skipped:
        arguments.say(f"{log.skipped:,} lines have an unknown format and were left out")
    if log.coarse:
        arguments.say("the log has whole seconds: each request got a random instant within its second")
    return OK


def replay(args: argparse.Namespace, argv: Sequence[str]) -> int:
    arguments.check_output(args.output)
    arguments.check_directory(args.junit)
    if args.duration is not None:
        raise Unusable("a trace has its own duration: leave out --duration")
    args.arrivals = f"trace:{args.trace}" + (f"@{args.speed:g}" if args.speed != 1 else "")
    return run.measure(arguments.run_config(args, argv), args)
