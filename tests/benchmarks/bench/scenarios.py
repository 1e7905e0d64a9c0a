"""The scenarios by which ``bench`` is held to its own claims: servers of which the truth is known.

    python -m tests.benchmarks.bench.scenarios [engine] [locust] [frozen] [stages] [tail] [intervals] [slo] [report]

prints a table of each (of all, about four minutes), measured on this machine: what was found beside what is needed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from bench.errors import Unusable
from bench.load import calibration, fleet, payload, schedule, target, wire
from bench.load.child_server import child_server
from bench.load.echo_server import EchoProtocol
from bench.load.measurements import Outcome
from bench.load.server_timing import CARRIERS
from bench.load.shot import Shot
from tests.benchmarks.bench import explanation as figures_explain
from tests.benchmarks.bench import statistics as figures_statistics
from tests.benchmarks.bench.figure import Figure, at_least, at_most, table

BODY = payload.Payload("600 bytes", payload.OTHER, b"x" * 600)
PERIOD_S, FROZEN_S = 6.0, 1.0
RATE_PER_S = 100.0
STOCK = """
from locust import FastHttpUser, constant_throughput, task

class Caller(FastHttpUser):
    host = {host!r}
    wait_time = constant_throughput(10)

    @task
    def ask(self):
        self.client.post("/invocations", data=b"x" * 600)
"""


def fast_engine() -> list[Figure]:
    """An open loop at 10,000/s from one process, and so from one core at most."""
    return _rate(fleet.FAST, 10_000.0, max_lag_ms=0.3)


def locust_engine() -> list[Figure]:
    """The same from a process of locust's, at 4,000/s."""
    return _rate(fleet.LOCUST, 4_000.0)


def _rate(name: str, rate_per_s: float, max_lag_ms: float | None = None, seconds: float = 5.0) -> list[Figure]:
    """The echo server is asked for 2 % more than is needed: what a Poisson process makes of a rate is not exact."""
    with calibration.echo_server() as url:
        run = fleet.run(_shot(url), schedule.build("poisson", 1.02 * rate_per_s, seconds, 1), 1, engine_name=name)
    lag_ms = (run.columns["picked_ns"] - run.columns["due_ns"]) / 1e6
    sent_ns, answered = run.columns["send_ns"], run.columns["outcome"] == Outcome.OK
    sent_per_s = (len(sent_ns) - 1) / (float(np.ptp(sent_ns)) / 1e9)
    lag = Figure("median send lag, ms", f"{np.quantile(lag_ms, 0.5):.3f}")
    return [
        at_least("requests sent per second, one process", sent_per_s, rate_per_s),
        at_least("answered with success", float(answered.mean()), 1.0, "{:.2%}"),
        lag if max_lag_ms is None else at_most(lag.name, float(np.quantile(lag_ms, 0.5)), max_lag_ms, "{:.3f}"),
        Figure("send lag p99, ms", f"{np.quantile(lag_ms, 0.99):.3f}"),
        Figure("share of a core", f"{run.generator_cpu:.0%}"),
    ]


def frozen(seconds: float = 30.0) -> list[Figure]:
    """A server that stops 1 s in every 6 s, at 100 requests/s: p95 by us, by stock locust, and in truth."""
    truth_ms = true_p95_ms()
    found = [Figure("p95 in truth, ms", f"{truth_ms:,.0f}")]
    for name in fleet.ENGINES:
        with child_server("tests.benchmarks.bench.scenarios", "serve-frozen") as url:
            run = fleet.run(_shot(url), schedule.build("constant", RATE_PER_S, seconds, 1), 1, engine_name=name)
        p95_ms = float(np.quantile((run.columns["last_byte_ns"] - run.columns["due_ns"]) / 1e6, 0.95))
        needed = f"{0.9 * truth_ms:,.0f} to {1.1 * truth_ms:,.0f}"
        found.append(
            Figure(f"p95 by the {name} engine, ms", f"{p95_ms:,.0f}", needed, abs(p95_ms / truth_ms - 1) <= 0.1)
        )
    with child_server("tests.benchmarks.bench.scenarios", "serve-frozen") as url:
        found.append(Figure("p95 by stock locust, ms", f"{_stock_locust_p95_ms(url, seconds):,.0f}"))
    return found


def true_p95_ms() -> float:
    """A request in the frozen sixth waits for what is left of the second, evenly between 0 and 1 s; others do not."""
    return (1 - 0.05 * PERIOD_S / FROZEN_S) * FROZEN_S * 1e3


def _shot(url: str) -> Shot:
    place, carrier = target.parse(url), CARRIERS["header"]
    wires = (wire.render(place, BODY, carrier),)
    return Shot(place, wires, calibration.ONLY, carrier, timeout_s=10.0, max_connections=512)


def _stock_locust_p95_ms(url: str, seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stock.py"
        file.write_text(STOCK.format(host=url))
        command = [sys.executable, "-m", "locust", "-f", str(file), "--headless", "-u", "10", "-r", "10"]
        done = subprocess.run(
            [*command, "-t", f"{seconds:g}s", "--json", "--only-summary"], capture_output=True, text=True, check=False
        )
    try:
        (stats,) = json.loads(done.stdout)
    except ValueError as error:
        raise Unusable(f"locust gave no figures: {done.stderr[-200:]}") from error
    counts = {float(key): count for key, count in stats["response_times"].items()}
    values = np.repeat(sorted(counts), [counts[key] for key in sorted(counts)])
    return float(np.quantile(values, 0.95))


async def _serve_frozen() -> None:
    """The echo server, in whose event loop nothing moves for a second in every six."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoProtocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    start_s = loop.time() + PERIOD_S - FROZEN_S

    def freeze(number: int) -> None:
        # A blocking wait on purpose, until an absolute instant: a late start does not make the freeze longer.
        until_s = start_s + number * PERIOD_S + FROZEN_S
        while (left_s := until_s - loop.time()) > 0:
            time.sleep(left_s)
        loop.call_at(start_s + (number + 1) * PERIOD_S, freeze, number + 1)

    loop.call_at(start_s, freeze, 0)
    await ended.wait()
    server.close()


SCENARIOS: dict[str, Callable[[], list[Figure]]] = {
    "engine": fast_engine,
    "locust": locust_engine,
    "frozen": frozen,
    "stages": figures_explain.stage_shares,
    "tail": figures_explain.tail_attribution,
    "intervals": figures_statistics.intervals,
    "slo": figures_statistics.capacity,
    "report": figures_explain.million_requests,
}
TITLES = {
    "engine": "The fast engine, open loop, echo server on the same machine",
    "locust": "The locust engine, open loop, echo server on the same machine",
    "frozen": "A server that stops 1 s in every 6 s, 100 requests/s",
    "stages": "A server with known waits in six stages: its shares of a typical request",
    "tail": f"Simulated runs with a planted fault, {figures_explain.SEEDS} seeds each: whom the tail is charged to",
    "intervals": "A simulated queue at 80 % load",
    "slo": f"slo on a simulated server, {figures_statistics.TRIAL_S:g} s a trial",
    "report": "A report of a million requests",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when every figure asked for is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench.scenarios", description=__doc__)
    parser.add_argument("scenario", nargs="*", choices=(*SCENARIOS, "serve-frozen"), metavar="SCENARIO", default=None)
    asked = parser.parse_args(arguments).scenario or list(SCENARIOS)
    if asked == ["serve-frozen"]:
        asyncio.run(_serve_frozen())
        return 0
    met = True
    console = Console()
    for name in asked:
        found = SCENARIOS[name]()
        console.print(table(TITLES[name], found))
        met = met and all(one.met is not False for one in found)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
