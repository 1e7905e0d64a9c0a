"""Figures of the engines: the rate and the send lag of one process, and the p95 of a server that stops."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.errors import Unusable
from bench.load import calibration, fleet, payload, schedule, target, wire
from bench.load.child_server import child_server
from bench.load.measurements import Outcome
from bench.load.server_timing import CARRIERS
from bench.load.shot import Shot
from tests.benchmarks.bench.figure import Figure, at_least, at_most
from tests.benchmarks.bench.frozen_server import FROZEN_S, PERIOD_S

BODY = payload.Payload("600 bytes", payload.OTHER, b"x" * 600)
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
    """An open loop at 10,000/s from one process of the fast engine."""
    return _rate(fleet.FAST, 10_000.0, max_lag_ms=0.3)


def locust_engine() -> list[Figure]:
    """An open loop at 4,000/s from one process of locust."""
    return _rate(fleet.LOCUST, 4_000.0)


def _rate(name: str, rate_per_s: float, max_lag_ms: float | None = None, seconds: float = 5.0) -> list[Figure]:
    """The schedule has 2 % more requests than needed, because the rate of a Poisson process varies."""
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
    """A server that stops 1 s in every 6 s, at 100 requests/s: p95 by both engines, stock locust, and in truth."""
    truth_ms = true_p95_ms()
    found = [Figure("p95 in truth, ms", f"{truth_ms:,.0f}")]
    for name in fleet.ENGINES:
        with child_server("tests.benchmarks.bench.frozen_server") as url:
            run = fleet.run(_shot(url), schedule.build("constant", RATE_PER_S, seconds, 1), 1, engine_name=name)
        p95_ms = float(np.quantile((run.columns["last_byte_ns"] - run.columns["due_ns"]) / 1e6, 0.95))
        needed = f"{0.9 * truth_ms:,.0f} to {1.1 * truth_ms:,.0f}"
        found.append(
            Figure(f"p95 by the {name} engine, ms", f"{p95_ms:,.0f}", needed, abs(p95_ms / truth_ms - 1) <= 0.1)
        )
    with child_server("tests.benchmarks.bench.frozen_server") as url:
        found.append(Figure("p95 by stock locust, ms", f"{_stock_locust_p95_ms(url, seconds):,.0f}"))
    return found


def true_p95_ms() -> float:
    """The true p95. A request in the frozen sixth waits for the rest of the second, evenly between 0 and 1 s."""
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
