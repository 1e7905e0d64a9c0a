"""The scenarios by which ``bench`` is held to its own claims: servers of which the truth is known.

    python -m bench.scenarios engine | frozen

prints one figure each, measured on this machine, beside what stock locust says of the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .errors import Unusable
from .load import calibration, engine, payload, schedule, target, wire
from .load.child_server import child_server
from .load.echo_server import EchoProtocol
from .load.server_timing import CARRIERS

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


def engine_rate(rate_per_s: float = 10_000.0, seconds: float = 5.0) -> dict[str, float]:
    """An open loop against the echo server: what was sent, how late, at what share of a core."""
    with calibration.echo_server() as url:
        run = engine.run_open(_shot(url), schedule.build("poisson", rate_per_s, seconds, 1))
    lag_ms = (run.columns["picked_ns"] - run.columns["due_ns"]) / 1e6
    sent_ns = run.columns["send_ns"]
    return {
        "offered_per_s": rate_per_s,
        "sent_per_s": (len(sent_ns) - 1) / (float(np.ptp(sent_ns)) / 1e9),
        "lag_p50_ms": float(np.quantile(lag_ms, 0.5)),
        "lag_p99_ms": float(np.quantile(lag_ms, 0.99)),
        "generator_cpu": run.generator_cpu,
    }


def frozen(seconds: float = 30.0) -> dict[str, float]:
    """A server that stops 1 s in every 6 s, at 100 requests/s: p95 by us, by stock locust, and in truth."""
    with child_server("bench.scenarios", "serve-frozen") as url:
        run = engine.run_open(_shot(url), schedule.build("constant", RATE_PER_S, seconds, 1))
        latency_ms = (run.columns["last_byte_ns"] - run.columns["due_ns"]) / 1e6
        return {
            "true_p95_ms": true_p95_ms(),
            "bench_p95_ms": float(np.quantile(latency_ms, 0.95)),
            "stock_locust_p95_ms": _stock_locust_p95_ms(url, seconds),
        }


def true_p95_ms() -> float:
    """A request in the frozen sixth waits for what is left of the second, evenly between 0 and 1 s; others do not."""
    return (1 - 0.05 * PERIOD_S / FROZEN_S) * FROZEN_S * 1e3


def _shot(url: str) -> engine.Shot:
    place, carrier = target.parse(url), CARRIERS["header"]
    wires = (wire.render(place, BODY, carrier),)
    return engine.Shot(place, wires, calibration.ONLY, carrier, timeout_s=10.0, max_connections=512)


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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scenarios", description=__doc__)
    parser.add_argument("scenario", choices=("engine", "frozen", "serve-frozen"))
    asked = parser.parse_args(arguments)
    if asked.scenario == "serve-frozen":
        asyncio.run(_serve_frozen())
        return 0
    found = engine_rate() if asked.scenario == "engine" else frozen()
    for name, value in found.items():
        print(f"{name:22}{value:12,.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
