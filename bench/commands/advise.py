"""``bench advise``: changes that the records of a server allow to forecast, ranked by p99 and cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import arguments
from ..exits import INVALID, OK
from ..experiments import advice, forecasting, sweep
from ..experiments.advice import Advice
from ..explain.workload import NoForecast
from ..result import record
from . import whatif

EPILOG = """\
Changes of the server that cost nothing: timer, batch size, binary bodies, other instances and threads, other candidates
of the artifact; and a second server, which halves the rate of each and doubles the price. Instances, threads and binary
bodies need --also with a run of them. Exit status: 0 with advice, 1 if nothing can be forecast, 2 wrong usage."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "advise",
        help="which change would help most, and what it costs",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("record", type=Path, metavar="RECORD.json")
    whatif.add_measured(command)
    command.add_argument("--price", type=arguments.positive, metavar="P", help="price of a server per hour")
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(asked: argparse.Namespace, _given: Sequence[str]) -> int:
    arguments.check_output(asked.output, asked.record)
    try:
        base = forecasting.measured(*record.read(asked.record))
        others = [forecasting.measured(*record.read(one)) for one in asked.also]
        found = advice.advise(asked.record, base, others, asked.artifact, asked.price, asked.also)
    except NoForecast as why:
        arguments.say(f"no forecast: {why}")
        return INVALID
    if asked.output is not None:
        sweep.write_json(asked.output, found)
    if arguments.prints_json(asked):
        sys.stdout.write(sweep.to_json(found).decode())
    else:
        Console().print(_table(found))
        for change, reason in found.refused.items():
            print(f"no forecast for {change}: {reason}")
    return OK


def _table(found: Advice) -> Table:
    grid = Table(box=None, padding=(0, 2))
    for head in ("change", "p99, ms", "", "servers", "price per million", "try it"):
        grid.add_column(head)
    grid.add_row("as it is", f"{found.p99_ms:,.2f}", "", "1", _money(found.per_million), "")
    for one in found.options:
        p99 = one.forecast.predictions["p99"]
        interval = f"[{p99.low_ms:,.2f}, {p99.high_ms:,.2f}]"
        grid.add_row(one.words, f"{p99.ms:,.2f}", interval, str(one.servers), _money(one.per_million), one.verify)
    return grid


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"
