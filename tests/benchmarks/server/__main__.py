"""The figures of ``docs/performance.md``: ``python -m tests.benchmarks.server [SCENARIO ...]``.

Each scenario measures the server and a reference in turns, in one run, and prints the ratio of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench.peers import networks
from tests.benchmarks.server.attacks import attacks
from tests.benchmarks.server.bodies import bodies
from tests.benchmarks.server.capture import capture
from tests.benchmarks.server.checkouts import checkouts
from tests.benchmarks.server.connections import connections
from tests.benchmarks.server.cycles import cycles
from tests.benchmarks.server.disconnects import disconnects
from tests.benchmarks.server.fairness import fairness
from tests.benchmarks.server.grpc_calls import grpc
from tests.benchmarks.server.lengths import lengths
from tests.benchmarks.server.overload import overload
from tests.benchmarks.server.processes import (
    ROOT,
    SERVER_CORE,
    Load,
    Unmeasurable,
    free_port,
    resident_bytes,
    served,
    slipway,
    wait_until_up,
    wrk,
    wrk_script,
)
from tests.benchmarks.server.replicas import replicas
from tests.benchmarks.server.script import script
from tests.benchmarks.server.soak import soak
from tests.benchmarks.server.stamps import stamps
from tests.benchmarks.server.swap import swap
from tests.benchmarks.server.viewer import viewer
from tests.queue_decisions import figures


def hot(work: Path, rounds: int, seconds: int) -> None:
    """A model that takes no time: rate at 32 connections and p50 at one, against a bare ASGI echo."""
    model = work / "perceptron.onnx"
    networks.perceptron(model)
    script = wrk_script(work / "post.lua")
    ours, echo = free_port(), free_port()
    with (
        served(slipway(model, ours), ours, work / "slipway.log"),
        served(["-m", "tests.benchmarks.server.echo", str(echo)], echo, work / "echo.log"),
    ):
        wide = in_turns(rounds, lambda port: wrk(port, script, 32, seconds), ours, echo)
        narrow = in_turns(rounds, lambda port: wrk(port, script, 1, seconds), ours, echo)
    rate, yard = median(wide[0], "rate"), median(wide[1], "rate")
    print(f"hot: 32 connections: {rate:,.0f}/s against echo {yard:,.0f}/s: {rate / yard:.0%} (wanted: 75 %)")
    p50, yard = median(narrow[0], "p50_s"), median(narrow[1], "p50_s")
    added = (p50 - yard) * 1e3
    print(f"hot: 1 connection: p50 {p50 * 1e3:.3f} ms against echo {yard * 1e3:.3f} ms: +{added:.3f} ms (wanted: 0.12)")
    failures = sum(load.failures for load in (*wide[0], *narrow[0]))
    if failures:
        print(f"hot: {failures} answers were not 200")


def compute(work: Path, rounds: int, seconds: int) -> None:
    """A model that takes over a millisecond: rows a second against a bare session, and p99 at 8 connections."""
    model = work / "convolutions.onnx"
    networks.convolutions(model)
    script = wrk_script(work / "post.lua")
    ours, echo = free_port(), free_port()
    bare: list[tuple[float, float, int]] = []
    full: list[Load] = []
    eight: list[Load] = []
    lone: list[Load] = []
    yard: list[Load] = []
    with (
        served(slipway(model, ours), ours, work / "slipway.log"),
        served(["-m", "tests.benchmarks.server.echo", str(echo)], echo, work / "echo.log"),
    ):
        for _ in range(rounds):
            bare.append(bare_session(model, seconds))
            full.append(wrk(ours, script, 32, seconds))
            eight.append(wrk(ours, script, 8, seconds))
            lone.append(wrk(ours, script, 1, seconds))
            yard.append(wrk(echo, script, 1, seconds))
    rows, row_s = statistics.median(one[0] for one in bare), statistics.median(one[1] for one in bare)
    size = statistics.mode(one[2] for one in bare)
    rate = statistics.median(load.rate / one[0] for load, one in zip(full, bare, strict=True))
    print(
        f"compute: the bare session: {row_s * 1e3:.2f} ms a row alone, {rows:,.0f} rows/s at its best batch size {size}"
    )
    print(f"compute: 32 connections: {median(full, 'rate'):,.0f} rows/s: {rate:.1%} of the bare session (wanted: 95 %)")
    batch_s = 1 / rows * max(size, 1)
    tail = median(eight, "p99_s")
    print(f"compute: 8 connections: p99 {tail * 1e3:.1f} ms: {tail / batch_s:.1f} batch times (wanted: below 10)")
    added = statistics.median(
        one.p50_s - other[1] - reply.p50_s for one, other, reply in zip(lone, bare, yard, strict=True)
    )
    print(
        f"compute: 1 connection: p50 {median(lone, 'p50_s') * 1e3:.2f} ms: "
        f"{added * 1e3:+.2f} ms against session + echo (wanted: 0.5)"
    )


def start(work: Path, rounds: int, model: Path | None) -> None:
    """Time from exec to the first 200 on /ping, and resident memory then, against a bare interpreter."""
    if model is None:
        model = work / "perceptron.onnx"
        networks.perceptron(model)
    ready, nothing, memory = [], [], []
    for _ in range(rounds):
        nothing.append(bare_interpreter())
        port, log = free_port(), work / "start.log"
        begun = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "serve.py", "--model", str(model), "--port", str(port)],
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )
            try:
                ready.append(wait_until_up(port, process, log) - begun)
                memory.append(resident_bytes(process.pid))
            finally:
                process.terminate()
                process.wait()
    took, yard = statistics.median(ready), statistics.median(nothing)
    print(f"start: {took:.2f} s to the first 200 on /ping, {took / yard:.1f} bare interpreters (wanted: at most 1.0 s)")
    print(f"start: {statistics.median(memory) / 1e6:.0f} MB resident when ready (wanted: at most 130 MB)")


def in_turns(rounds: int, measure: Callable[[int], Load], ours: int, reference: int) -> tuple[list[Load], list[Load]]:
    """Measure ours and the reference alternately, so that a change of the machine's speed affects both."""
    pairs = [(measure(ours), measure(reference)) for _ in range(rounds)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def median(loads: Sequence[Load], field: str) -> float:
    return statistics.median(float(getattr(load, field)) for load in loads)


BARE = """
import sys, time, numpy as np
from pathlib import Path
from server.backends import BackendOptions, loader
session = loader("onnxruntime")(Path(sys.argv[1]), BackendOptions(threads=1))
for size in (1, 2, 4, 8):
    rows = [np.full((size, 64), 0.25, np.float32)]
    taken = []
    until = time.perf_counter() + float(sys.argv[2]) / 4
    while time.perf_counter() < until:
        begun = time.perf_counter()
        session.run(rows)
        taken.append(time.perf_counter() - begun)
    print(size, len(taken) * size / sum(taken), np.median(taken))
"""


def bare_session(model: Path, seconds: int) -> tuple[float, float, int]:
    """Best rows a second over batch sizes, median seconds of a single row, and the best size, on the server's core."""
    command = ["taskset", "-c", SERVER_CORE, sys.executable, "-c", BARE, str(model), str(seconds)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    table = np.array([line.split() for line in out.splitlines()], float)
    best = int(table[:, 1].argmax())
    return float(table[best, 1]), float(table[0, 2]), int(table[best, 0])


def bare_interpreter() -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begun


SERVED: dict[str, Callable[[Path, int, int], None]] = {
    "hot": hot,
    "grpc": grpc,
    "compute": compute,
    "swap": swap,
    "fairness": fairness,
    "overload": overload,
    "disconnects": disconnects,
    "cycles": cycles,
    "attacks": attacks,
    "capture": capture,
    "connections": connections,
    "bodies": bodies,
    "viewer": viewer,
    "replicas": replicas,
    "soak": soak,
    "stamps": stamps,
}
"""Scenarios with real servers: a number of rounds, each some seconds long."""


def main(argv: Sequence[str] | None = None) -> int:
    scenarios = (
        *("hot", "grpc", "compute", "start", "decisions", "swap"),
        *(
            "lengths",
            "fairness",
            "overload",
            "disconnects",
            "script",
            "cycles",
            "attacks",
            "replicas",
            "soak",
            "stamps",
            "capture",
            "connections",
            "bodies",
            "viewer",
        ),
    )
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.server", description=__doc__.partition("\n")[0])
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"{', '.join(scenarios)}; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each measurement (default: 5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement (default: 2)")
    parser.add_argument(
        "--model",
        type=Path,
        help="for start: the model to start with, such as build/digits; for lengths: build/embeddings",
    )
    parser.add_argument("--other", type=Path, help="for checkouts: the folder of another checkout")
    options = parser.parse_args(argv)
    if "checkouts" in options.scenario and options.other is None:
        parser.error("checkouts needs --other FOLDER")
    unknown = set(options.scenario) - {*scenarios, "checkouts"}
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(scenarios)}")
    with tempfile.TemporaryDirectory() as work:
        try:
            for name in options.scenario or scenarios:
                if name == "decisions":
                    print(*figures(), sep="\n")
                elif name == "script":
                    print(*script(Path(work), options.rounds, options.seconds), sep="\n")
                elif name == "checkouts":
                    checkouts(Path(work), options.rounds, options.seconds, options.other)
                elif name == "start":
                    start(Path(work), options.rounds, options.model)
                elif name == "lengths":
                    lengths(Path(work), options.rounds, options.seconds, options.model)
                else:
                    SERVED[name](Path(work), options.rounds, options.seconds)
        except Unmeasurable as error:
            print(f"cannot measure: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
