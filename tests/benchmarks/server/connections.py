"""Many connections at once: latencies against those of the bare echo, with the same client, in turns."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.peers import networks
from tests.benchmarks.server.processes import LOAD_CORE, ROOT, Unmeasurable, free_port, served, slipway

COUNTS = (1_000, 4_000)
SPARE = 1_000
"""Descriptors beside those of the connections."""
CLIENT_WITHIN_S = 120


def connections(work: Path, rounds: int, seconds: int) -> None:
    """The first answers of all connections, then rate and latencies at full load, of ours and of the echo."""
    allow(max(COUNTS) + SPARE)
    model = work / "perceptron.onnx"
    networks.perceptron(model)
    for count in COUNTS:
        ours, echo = free_port(), free_port()
        with (
            served(slipway(model, ours), ours, work / "slipway.log"),
            served(["-m", "tests.benchmarks.server.echo", str(echo)], echo, work / "echo.log"),
        ):
            pairs = [(_many(ours, count, seconds), _many(echo, count, seconds)) for _ in range(rounds)]
        for name, rows in (("ours", [one for one, _ in pairs]), ("echo", [other for _, other in pairs])):
            print(f"connections: {count:5,} {name}: {_line(rows)}")
        tail = statistics.median(one["p99_s"] / other["p99_s"] for one, other in pairs)
        first = statistics.median(one["accepted_s"][2] / other["accepted_s"][2] for one, other in pairs)
        print(f"connections: {count:5,}: over the echo's: p99 {tail:.2f} (wanted: 1.5), all first answers {first:.2f}")


def _many(port: int, count: int, seconds: int) -> dict[str, Any]:
    command = ["taskset", "-c", LOAD_CORE, sys.executable, "-m", "tests.benchmarks.server.many"]
    done = subprocess.run(
        [*command, str(port), str(count), str(seconds)], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=CLIENT_WITHIN_S,
    )  # fmt: skip
    if done.returncode:
        raise Unmeasurable(f"the client failed: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _line(rows: list[dict[str, Any]]) -> str:
    def middle(key: str) -> float:
        return statistics.median(float(row[key]) for row in rows)

    first = [statistics.median(row["accepted_s"][at] for row in rows) * 1e3 for at in range(3)]
    return (
        f"first answers {first[0]:.0f}, {first[1]:.0f}, {first[2]:.0f} ms (half, 99 %, all); "
        f"{middle('rate'):,.0f}/s, p50 {middle('p50_s') * 1e3:.1f}, p99 {middle('p99_s') * 1e3:.1f}, "
        f"longest {middle('max_s') * 1e3:.0f} ms; fewest answers of a connection {middle('fewest'):.0f}, median "
        f"{middle('median'):.0f}; {sum(row['broken'] + row['unanswered'] for row in rows)} broken or unanswered"
    )


def allow(descriptors: int) -> None:
    """Raise the limit on open files for this process and its children. Raises Unmeasurable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < descriptors:
        raise Unmeasurable(f"{descriptors:,} open files are needed and {hard:,} are allowed: raise ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
