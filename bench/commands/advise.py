"""``bench advise``: forecasts of all changes that the given records allow, ranked by p99 and cost."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import arguments
from ..exits import INVALID, OK
from ..experiments import advice, forecasting
from ..experiments.advice import Advice
from ..explain.workload import NoForecast
from ..result import record
from . import whatif

EPILOG = """\
Forecasts the changes that cost nothing: batch timer, batch size, binary bodies, instances and threads, other candidates
of the artifact. It also forecasts a second server, which halves the rate of each server and doubles the price.
Instances, threads and binary bodies need --also with a run that has them. Exit status: 0 with advice, 1 if nothing can
be forecast, 2 wrong usage."""


def add(commands: arguments.Subparsers[argparse.ArgumentParser]) -> None:
    command = arguments.add_described(commands, "advise", "which change would help most, and what it costs", EPILOG)
    command.add_argument("record", type=Path, metavar="RECORD.json")
    whatif.add_measured(command)
    command.add_argument("--price", type=arguments.positive, metavar="P", help="price of a server per hour")
    arguments.add_output(command)
    command.set_defaults(execute=run)


def run(args: argparse.Namespace, _argv: Sequence[str]) -> int:
    arguments.check_output(args.output, args.record)
    try:
        base = forecasting.measured(*record.read(args.record))
        others = [forecasting.measured(*record.read(path)) for path in args.also]
        result = advice.advise(args.record, base, others, args.artifact, args.price, args.also)
    except NoForecast as error:
        arguments.say(f"no forecast: {error}")
        return INVALID
    arguments.give(args, result, lambda: _show(result))
    return OK


def _show(result: Advice) -> None:
    Console().print(_table(result))
    for words, reason in result.refused.items():
        print(f"no forecast for {words}: {reason}")


def _table(result: Advice) -> Table:
    grid = Table(box=None, padding=(0, 2))
    for title in ("change", "p99, ms", "", "servers", "price per million", "try it"):
        grid.add_column(title)
    grid.add_row("as it is", f"{result.p99_ms:,.2f}", "", "1", _money(result.per_million), "")
    for option in result.options:
        p99 = option.forecast.predictions["p99"]
        interval = f"[{p99.low_ms:,.2f}, {p99.high_ms:,.2f}]"
        grid.add_row(
            option.words, f"{p99.ms:,.2f}", interval, str(option.servers), _money(option.per_million), option.verify
        )
    return grid


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"
