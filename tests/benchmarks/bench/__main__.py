"""The figures that ``bench`` claims about itself, measured on this machine beside the value that each needs.

    python -m tests.benchmarks.bench [engine] [locust] [frozen] [stages] [tail] [intervals] [slo] [report] [verdict]
    python -m tests.benchmarks.bench forecast --results forecast.jsonl [--only "dense 512"]

prints a table for each name. The first line takes about five minutes, forecast takes 30. It can be measured in parts:
results are kept in the file, and the figures are over all that it has. Every figure comes from a server or a queue with
a known answer. ``python -m tests.benchmarks.bench.plants`` measures the verdicts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from tests.benchmarks.bench import engines, explanation, forecasts, statistics
from tests.benchmarks.bench.figure import Figure, table
from tests.benchmarks.bench.kept import Kept
from tests.unit.bench import queues

FIGURES: dict[str, Callable[[], list[Figure]]] = {
    "engine": engines.fast_engine,
    "locust": engines.locust_engine,
    "frozen": engines.frozen,
    "stages": explanation.stage_shares,
    "tail": explanation.tail_attribution,
    "intervals": statistics.intervals,
    "slo": statistics.capacity,
    "report": explanation.million_requests,
    "verdict": explanation.verdict_cost,
}
FORECAST = "forecast"
"""Measured only if it is named: it takes long."""
TITLES = {
    "engine": "The fast engine, open loop, echo server on the same machine",
    "locust": "The locust engine, open loop, echo server on the same machine",
    "frozen": "A server that stops 1 s in every 6 s, 100 requests/s",
    "stages": "A server with known waits in six stages: shares of a typical request",
    "tail": f"Simulated runs with a planted fault, {explanation.SEEDS} seeds each: the largest term of the tail",
    "intervals": "A simulated queue at 80 % load",
    "slo": f"slo on a simulated server, {queues.TRIAL_S:g} s a trial",
    "report": "A report of a million requests",
    "verdict": "The record and the verdict of a run of a minute",
    FORECAST: "Changes on real servers: forecast and observed p99, as ratios to that before",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 if every requested figure is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench", description=__doc__)
    parser.add_argument(
        "figures", nargs="*", choices=(*FIGURES, FORECAST), metavar="FIGURES", help="default: all but forecast"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="of forecast: titles with these")
    parser.add_argument("--results", type=Path, metavar="FILE.jsonl", help="keep the results of forecast here")
    parser.add_argument("--again", action="store_true", help="measure titles that the file has")
    met = True
    console = Console()
    asked = parser.parse_args(arguments)
    for name in asked.figures or list(FIGURES):
        kept = Kept(asked.only, asked.results, asked.again)
        found = forecasts.forecasts(kept) if name == FORECAST else FIGURES[name]()
        console.print(table(TITLES[name], found))
        met = met and all(one.met is not False for one in found)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
