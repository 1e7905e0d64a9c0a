"""The figures that ``bench`` claims about itself, measured on this machine beside the value that each needs.

    python -m tests.benchmarks.bench [engine] [locust] [frozen] [stages] [tail] [intervals] [slo] [report] [plants]
    python -m tests.benchmarks.bench forecast

prints a table for each name. All of them but forecast take about twelve minutes, and forecast takes 20. Every figure
comes from a server or a queue with a known answer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from tests.benchmarks.bench import engines, explanation, forecasts, plants, statistics
from tests.benchmarks.bench.figure import Figure, table
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
    "plants": plants.table,
    "forecast": forecasts.forecasts,
}
ONLY_IF_NAMED = ("forecast",)
"""It takes 20 minutes."""
TITLES = {
    "engine": "The fast engine, open loop, echo server on the same machine",
    "locust": "The locust engine, open loop, echo server on the same machine",
    "frozen": "A server that stops 1 s in every 6 s, 100 requests/s",
    "stages": "A server with known waits in six stages: shares of a typical request",
    "tail": f"Simulated runs with a planted fault, {explanation.SEEDS} seeds each: the largest term of the tail",
    "intervals": "A simulated queue at 80 % load",
    "slo": f"slo on a simulated server, {queues.TRIAL_S:g} s a trial",
    "report": "A report of a million requests",
    "plants": "Faults planted on real servers: the causes that a run names",
    "forecast": "Changes on real servers: forecast and observed p99, as ratios to that before",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 if every requested figure is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench", description=__doc__)
    parser.add_argument(
        "figures", nargs="*", choices=tuple(FIGURES), metavar="FIGURES", help="default: all but forecast"
    )
    met = True
    console = Console()
    for name in parser.parse_args(arguments).figures or [one for one in FIGURES if one not in ONLY_IF_NAMED]:
        found = FIGURES[name]()
        console.print(table(TITLES[name], found))
        met = met and all(one.met is not False for one in found)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
