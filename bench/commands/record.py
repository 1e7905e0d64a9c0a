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


def record(asked: argparse.Namespace, _given: Sequence[str]) -> int:
    try:
        with asked.log.open(encoding="utf-8", errors="replace") as file:
            found = access_log.read(file, asked.path)
    except OSError as error:
        raise Unusable(f"cannot read the log {str(asked.log)!r}: {error.strerror or error}") from error
    made = trace.make(asked.log.name, found.arrivals)
    trace.write(asked.output, made)
    arguments.say(f"{len(found.arrivals):,} requests in {made.duration_s:,.1f} s, {made.rate_per_s:,.1f}/s")
    if found.skipped:
        arguments.say(f"{found.skipped:,} lines have no known format and were left out")
    if found.coarse:
        arguments.say("the log has whole seconds: each request got a random instant within its second")
    return OK


def replay(asked: argparse.Namespace, given: Sequence[str]) -> int:
    arguments.check_output(asked.output)
    arguments.check_directory(asked.junit)
    if asked.duration is not None:
        raise Unusable("a trace has its own duration: leave out --duration")
    asked.arrivals = f"trace:{asked.trace}" + (f"@{asked.speed:g}" if asked.speed != 1 else "")
    return run.measure(arguments.run_config(asked, given), asked)
