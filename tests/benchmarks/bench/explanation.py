"""Figures of the explanation: planted causes against those found, and the cost of a report on many requests."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.experiments import run
from bench.explain import stages, tail
from bench.load import engine, schedule, target, wire
from bench.load.calibration import ONLY
from bench.load.child_server import child_server
from bench.load.payload import Payload
from bench.load.server_timing import CARRIERS
from bench.load.shot import Shot
from bench.peers.loads import children_cpu_s
from bench.result import record
from tests.benchmarks.bench.figure import Figure, at_least, at_most
from tests.unit.bench import planted
from tests.unit.bench.planted_record import CONFIG, RATE_PER_S, planted_record
from tests.unit.bench.planted_server import DELAYS_MS

SEEDS = 40
TRUTH_S, RUN_S, MINUTE_S = 600.0, 45.0, 60.0
_REPOSITORY = Path(__file__).resolve().parents[3]
_PAYLOAD = Payload("planted", "application/json", b"{}")


def stage_shares() -> list[Figure]:
    """A server on this machine with a known wait in each stage: the measured shares against the planted ones."""
    carrier = CARRIERS["header"]
    with planted_server() as url:
        place = target.parse(url)
        rendered = (wire.render(place, _PAYLOAD, carrier),)
        shot = Shot(place, rendered, ONLY, carrier, timeout_s=10.0, max_connections=64)
        raw = engine.run(shot, schedule.build("poisson", 20, 20, 1))
    band = stages.at_quantile(stages.join(raw.columns), 0.5)
    if band is None:
        return [Figure("answers", "none", "some", met=False)]
    whole, found = sum(DELAYS_MS.values()), []
    for name in stages.TERMS:
        planted_share, share = DELAYS_MS.get(name, 0.0) / whole, band.terms_ms[name] / band.total_ms
        near = abs(share - planted_share) <= 0.05
        found.append(Figure(name, f"{share:.1%}", f"{planted_share:.1%}, 5 points either way", near))
    return found


def tail_attribution() -> list[Figure]:
    """Runs of ``RUN_S`` with a planted fault, against a long run: whether the largest term is the right one."""
    right = runs = 0
    figures = []
    for fault in planted.FAULTS:
        truth = tail.attribute(stages.join(planted.simulate(10_000, RATE_PER_S, TRUTH_S, fault)))
        assert truth is not None
        cause, hits, inside = _largest(truth), 0, 0
        for seed in range(SEEDS):
            found = tail.attribute(stages.join(planted.simulate(seed, RATE_PER_S, RUN_S, fault)))
            assert found is not None
            hits += _largest(found) == cause
            term = found.terms[cause]
            inside += (term.low_share or 0.0) <= (truth.terms[cause].share or 0.0) <= (term.high_share or 0.0)
        share = truth.terms[cause].share
        name = f"{fault.name}: {cause}, {share:.0%} of the gap"
        figures.append(Figure(name, f"right in {hits / SEEDS:.0%}, interval holds the truth in {inside / SEEDS:.0%}"))
        right, runs = right + hits, runs + SEEDS
    return [*figures, at_least("right, of all runs", right / runs, 0.95, "{:.1%}")]


def million_requests() -> list[Figure]:
    """Read, explain and draw a run of a million requests, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        duration_s = 1_000_000 / RATE_PER_S
        rows = planted.simulate(1, RATE_PER_S, duration_s + 2)
        result = planted_record(rows, replace(CONFIG, duration_s=duration_s))
        record.write(path, result, rows)
        begun, cpu_s = time.perf_counter(), children_cpu_s()
        command = [sys.executable, "-m", "bench", "report", str(path), "--output", str(path.with_suffix(".html"))]
        subprocess.run(command, check=True, cwd=_REPOSITORY)
        cpu_s = children_cpu_s() - cpu_s
        seconds, size = time.perf_counter() - begun, path.with_suffix(".html").stat().st_size
    return [
        Figure("requests", f"{result.window.requests:,}"),
        # One thread does all work: its CPU time on a busy machine equals the elapsed time on an idle one.
        at_most("seconds of CPU", cpu_s, 5.0),
        Figure("seconds", f"{seconds:.2f}"),
        at_most("kB of the page", size / 1e3, 500, "{:,.0f}"),
    ]


def verdict_cost() -> list[Figure]:
    """The CPU time of the record and the verdict of a run of a minute."""
    rows = planted.simulate(1, RATE_PER_S, MINUTE_S + 2)
    begun_s = time.process_time()
    found = run.judged(planted_record(rows, replace(CONFIG, duration_s=MINUTE_S)), rows)
    return [
        Figure("requests", f"{found.window.requests:,}"),
        at_most("seconds of CPU", time.process_time() - begun_s, 5.0),
    ]


@contextmanager
def planted_server() -> Iterator[str]:
    """The URL of the planted server, which runs until the block ends."""
    with child_server("tests.unit.bench.planted_server") as address:
        yield f"{address}/invocations"


def _largest(found: tail.Attribution) -> str:
    return max(found.terms, key=lambda name: found.terms[name].ms)
