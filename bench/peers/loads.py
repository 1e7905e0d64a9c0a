"""The loads: one after another on a server that is up, each with its verdict on whether it may be believed."""

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
from ..load.engine import RawRun, Shot
from ..load.measurements import Outcome
from ..load.payload import JSON, Payload
from ..load.server_timing import CARRIERS
from ..result import validity
from ..result.statistics import min_samples, order_statistic
from ..result.validity import MAX_GENERATOR_CPU
from .figures import Figure, Load

WRK, ENGINE = "wrk", "engine"
TIMEOUT_S = 10.0
CONNECTIONS = 512
ENOUGH = min_samples(0.99)
MOST_S = 30.0
"""An open loop lasts until it has enough answers for a p99, but no longer than this."""
MAX_FAILED = 0.001
"""Share of requests that may fail before a figure is not one of the service any more."""
SCRIPT = """\
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
"""URL, body, load, seconds, seed."""


def measure(generator: str) -> Measure:
    """Closed loops by wrk, which has the speed for the fastest servers, or by the engine; open loops by the engine.

    Raises Unusable when wrk is asked for and not there.
    """
    if generator == WRK and shutil.which(WRK) is None:
        raise Unusable("wrk is not installed (Debian: apt-get install wrk): install it, or pass --generator engine")

    def one(url: str, body: bytes, load: Load, seconds: float, seed: int) -> Figure:
        if load.users is not None and generator == WRK:
            return by_wrk(url, body, load.users, seconds)
        return by_engine(url, body, load, seconds, seed)

    return one


def by_engine(url: str, body: bytes, load: Load, seconds: float, seed: int) -> Figure:
    """Raises KeyboardInterrupt: the engine takes Ctrl-C for a wish to see what there is, and here that is nothing."""
    place, carrier = target.parse(url), CARRIERS["none"]
    wires = (wire.render(place, Payload("row", JSON, body), carrier),)
    most = load.users or CONNECTIONS
    shot = Shot(place, wires, ONLY, carrier, TIMEOUT_S, most)
    if load.users is not None:
        raw = fleet.run(shot, fleet.Callers(load.users, seconds), 1)
    else:
        assert load.rate_per_s is not None
        lasts_s = max(seconds, min(MOST_S, 1.2 * ENOUGH / load.rate_per_s))
        raw = fleet.run(shot, schedule.build("poisson", load.rate_per_s, lasts_s, seed), 1)
    if raw.interrupted:
        raise KeyboardInterrupt
    return of_engine(raw, most)


def of_engine(raw: RawRun, max_connections: int) -> Figure:
    """The figure of a run, judged as every run of bench is, and by its failures."""
    verdict = validity.judge(raw, raw.columns, 0, max_connections)
    good = raw.columns["outcome"] == Outcome.OK
    latency_ns = np.sort((raw.columns["last_byte_ns"] - raw.columns["due_ns"])[good])
    ended_ns = raw.columns["last_byte_ns"][good]
    span_s = float(np.ptp(ended_ns)) / 1e9 if len(ended_ns) else 0.0
    count, failures = len(good), int((~good).sum())
    return Figure(
        (len(ended_ns) - 1) / span_s if span_s else 0.0,
        order_statistic(latency_ns, 0.5) / 1e6 if len(latency_ns) else 0.0,
        order_statistic(latency_ns, 0.99) / 1e6 if len(latency_ns) >= ENOUGH else None,
        count,
        failures,
        raw.generator_cpu,
        (*_failed(count, failures), *verdict.reasons),
    )


def by_wrk(url: str, body: bytes, users: int, seconds: float) -> Figure:
    """A closed loop by wrk, for at least one whole second. Raises Unusable when wrk itself fails."""
    lasts_s = max(1, round(seconds))
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
        script.write(SCRIPT % body.decode())
        script.flush()
        command = [WRK, "-t1", f"-c{users}", f"-d{lasts_s}s", "-s", str(Path(script.name)), url]
        before, began_s = _children_s(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        cpu = (_children_s() - before) / (time.perf_counter() - began_s)
    lines = done.stdout.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        why = (done.stderr or done.stdout).strip()[-200:]
        return Figure(0.0, 0.0, 0.0, 0, 0, cpu, (f"wrk got no answer: {why}",))
    return of_wrk(json.loads(lines[-1]), cpu)


def of_wrk(said: dict[str, int], cpu: float) -> Figure:
    """The figure of what wrk's script said. ``requests`` there are all that were answered, with success or without."""
    count, failures = said["requests"], said["failed"]
    problems = _failed(count, failures)
    if cpu > MAX_GENERATOR_CPU:
        problems += (f"the generator used {cpu:.0%} of its core, limit {MAX_GENERATOR_CPU:.0%}",)
    return Figure(
        count / (said["us"] / 1e6),
        said["p50_us"] / 1e3,
        said["p99_us"] / 1e3 if count >= ENOUGH else None,
        count,
        failures,
        cpu,
        problems,
    )


def _failed(count: int, failures: int) -> tuple[str, ...]:
    if not count:
        return ("nothing was answered",)
    return (f"{failures:,} of {count:,} requests failed",) if failures > MAX_FAILED * count else ()


def _children_s() -> float:
    """CPU seconds of all children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
