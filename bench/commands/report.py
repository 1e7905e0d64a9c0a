"""``bench report``: one HTML page for one or several records of ``bench run``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import arguments
from ..exits import OK
from ..report import page
from ..result import objective


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("report", help="one HTML page of one or several results of run")
    command.add_argument("records", nargs="+", type=Path, metavar="RECORD.json")
    command.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE.html")
    command.add_argument("--objective", metavar="MS", help="draw a line at this latency (default: the run's objective)")
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    limit_ms = objective.duration_ms(args.objective) if args.objective is not None else None
    page.write(args.records, args.output, limit_ms)
    arguments.say(f"written: {args.output}")
    return OK
