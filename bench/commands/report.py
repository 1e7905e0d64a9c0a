"""``bench report``: one page of one or several results."""

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


def run(asked: argparse.Namespace, _given: Sequence[str]) -> int:
    limit_ms = objective.duration_ms(asked.objective) if asked.objective is not None else None
    page.write(asked.records, asked.output, limit_ms)
    arguments.say(f"written: {asked.output}")
    return OK
