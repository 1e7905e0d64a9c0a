"""Loads on a ready server: closed loops by wrk or by bench's engine, open loops by bench's engine."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import Unusable
from ..load import fleet, schedule, target, wire
from ..load.calibration import ONLY
from ..load.callers import Callers
from ..load.measurements import Outcome
from ..load.payload import JSON, Payload
from ..load.raw_run import RawRun
from ..load.server_timing import CARRIERS
from ..load.shot import Shot
from ..result import validity
from ..result.statistics import min_samples, order_statistic
from ..result.validity import MAX_GENERATOR_CPU
from .figures import Figure, Load

WRK, ENGINE = "wrk", "engine"
TIMEOUT_S = 10.0
CONNECTIONS = 512
MIN_RESPONSES_P99 = min_samples(0.99)
MAX_OPEN_LOOP_S = 30.0
"""An open loop is extended until it has enough responses for p99, up to this duration."""
MAX_FAILED = 0.001
"""Share of requests that may fail in a valid figure."""
WRK_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[%s]==]
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests": %%d, "us": %%d, "failed": %%d, "p50_us": %%d, "p99_us": %%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""
Measure = Callable[[str, bytes, Load, float, int], Figure]
"""Sends a load: URL, body, load, seconds, seed."""


def measure(generator: str) -> Measure:
    """A function that sends loads. ``generator``: for closed loops; wrk is fast enough for the fastest servers.

    Raises Unusable if ``generator`` is wrk and wrk is not installed.
    """
    if generator == WRK and shutil.which(WRK) is None:
        raise Unusable("wrk is not installed (Debian: apt-get install wrk): install it, or pass --generator engine")

    def send(url: str, body: bytes, load: Load, seconds: float, seed: int) -> Figure:
        if load.users is not None and generator == WRK:
            return by_wrk(url, body, load.users, seconds)
        return by_engine(url, body, load, seconds, seed)

    return send


def by_engine(url: str, body: bytes, load: Load, seconds: float, seed: int) -> Figure:
    """Send a load with bench's engine, and return its figure. Raises KeyboardInterrupt on Ctrl-C."""
    server_target, carrier = target.parse(url), CARRIERS["none"]
    wires = (wire.render(server_target, Payload("row", JSON, body), carrier),)
    connections = load.users or CONNECTIONS
    shot = Shot(server_target, wires, ONLY, carrier, TIMEOUT_S, connections)
    if load.users is not None:
        raw = fleet.run(shot, Callers(load.users, seconds), 1)
    else:
        assert load.rate_per_s is not None
        duration_s = max(seconds, min(MAX_OPEN_LOOP_S, 1.2 * MIN_RESPONSES_P99 / load.rate_per_s))
        raw = fleet.run(shot, schedule.build("poisson", load.rate_per_s, duration_s, seed), 1)
    if raw.interrupted:
        raise KeyboardInterrupt
    return of_engine(raw)


def of_engine(raw: RawRun) -> Figure:
    """The figure of a run. Its problems are the reasons of ``validity.judge``, and too many failed requests."""
    judged = validity.judge(raw, raw.columns, 0)
    succeeded = raw.columns["outcome"] == Outcome.OK
    latency_ns = np.sort((raw.columns["last_byte_ns"] - raw.columns["due_ns"])[succeeded])
    response_ns = raw.columns["last_byte_ns"][succeeded]
    span_s = float(np.ptp(response_ns)) / 1e9 if len(response_ns) else 0.0
    count, failures = len(succeeded), int((~succeeded).sum())
    return Figure(
        (len(response_ns) - 1) / span_s if span_s else 0.0,
        order_statistic(latency_ns, 0.5) / 1e6 if len(latency_ns) else 0.0,
        order_statistic(latency_ns, 0.99) / 1e6 if len(latency_ns) >= MIN_RESPONSES_P99 else None,
        count,
        failures,
        raw.generator_cpu,
        (*_failure_problems(count, failures), *judged.reasons),
    )


def by_wrk(url: str, body: bytes, users: int, seconds: float) -> Figure:
    """Send a closed loop with wrk, for at least one second. If wrk fails, its error is the problem of the figure."""
    duration_s = max(1, round(seconds))
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
        script.write(WRK_SCRIPT % body.decode())
        script.flush()
        command = [WRK, "-t1", f"-c{users}", f"-d{duration_s}s", "-s", str(Path(script.name)), url]
        cpu_before_s, start_s = children_cpu_s(), time.perf_counter()
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        cpu = (children_cpu_s() - cpu_before_s) / (time.perf_counter() - start_s)
    lines = result.stdout.splitlines()
    if result.returncode or not lines or not lines[-1].startswith("{"):
        error = (result.stderr or result.stdout).strip()[-200:]
        return Figure(0.0, 0.0, 0.0, 0, 0, cpu, (f"wrk got no response: {error}",))
    return of_wrk(json.loads(lines[-1]), cpu)


def of_wrk(output: dict[str, int], cpu: float) -> Figure:
    """The figure from the output of ``WRK_SCRIPT``. Its ``requests`` counts all responses, failed ones included."""
    count, failures = output["requests"], output["failed"]
    problems = _failure_problems(count, failures)
    if cpu > MAX_GENERATOR_CPU:
        problems += (f"the generator used {cpu:.0%} of its core, limit {MAX_GENERATOR_CPU:.0%}",)
    return Figure(
        count / (output["us"] / 1e6),
        output["p50_us"] / 1e3,
        output["p99_us"] / 1e3 if count >= MIN_RESPONSES_P99 else None,
        count,
        failures,
        cpu,
        problems,
    )


def _failure_problems(count: int, failures: int) -> tuple[str, ...]:
    if not count:
        return ("there was no response",)
    return (f"{failures:,} of {count:,} requests failed",) if failures > MAX_FAILED * count else ()


def children_cpu_s() -> float:
    """CPU seconds of all ended child processes that this process has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
