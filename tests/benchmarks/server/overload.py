"""Overload: goodput at 3 and 10 times the capacity, and the latency of the 429 responses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.load import engine, schedule
from bench.load.callers import Callers
from bench.load.measurements import Outcome
from bench.load.raw_run import RawRun
from bench.peers import networks
from tests.benchmarks.server.processes import LOAD_CORE, free_port, on_core, resident_bytes, served, slipway, waited_s
from tests.benchmarks.server.swap import shot

PATH = "/invocations"
USERS = 16
"""Of the closed loop that finds the capacity: one full batch runs, one waits, and no request is shed."""

LOADS = (0.8, 1.0, 3.0, 10.0)
"""Offered, as multiples of the capacity. The goodput up to 1 is the peak."""

DEADLINE_MS = 1_000
SECONDS = 4.0
"""Least length of a step: several times the deadline."""


@dataclass(frozen=True, slots=True)
class Step:
    """One offered load: requests a second that met the deadline, late answers, shed requests, and the server's memory.

    ``shed_p99_s``: from the write of a request to the last byte of its 429."""

    load: float
    goodput: float
    answered: int
    late: int
    shed: int
    other: int
    shed_p99_s: float
    resident_bytes: int
    generator_cpu: float
    waited: float
    """Share of the time in which the server's main thread was ready and had no core. The model computes on the same
    core, which is part of that time."""


def overload(work: Path, rounds: int, seconds: float) -> None:
    """An open loop whose rate steps up to ten times the capacity; the server on one core, the load on the other."""
    seconds = max(seconds, SECONDS)
    model = work / "heavy.onnx"
    networks.convolutions(model, channels=64, layers=24)
    port = free_port()
    flags = ("--deadline-ms", str(DEADLINE_MS), "--max-batch-size", "8")
    with on_core(LOAD_CORE), served(slipway(model, port, *flags), port, work / "slipway.log") as process:
        closed = engine.run(shot(port, PATH), Callers(USERS, seconds))
        capacity = _in_time(closed) / seconds
        turns = [
            [_step(port, process.pid, load, capacity, seconds, turn) for load in LOADS]
            for turn in range(max(rounds, 1))
        ]
    _print(turns, capacity)


def _step(port: int, pid: int, load: float, capacity: float, seconds: float, seed: int) -> Step:
    rate, waited = load * capacity, waited_s(pid)
    run = engine.run(shot(port, PATH, connections=1_024), schedule.build("poisson", rate, seconds, seed))
    columns = run.columns
    took_s = (columns["last_byte_ns"] - columns["send_ns"]) / 1e9
    ok = columns["outcome"] == Outcome.OK
    shed = columns["status"] == 429
    return Step(
        load=load,
        goodput=_in_time(run) / max(float(columns["last_byte_ns"].max()) / 1e9, seconds),
        answered=int(ok.sum()),
        late=int((ok & (took_s > DEADLINE_MS / 1e3)).sum()),
        shed=int(shed.sum()),
        other=int((~ok & ~shed).sum()),
        shed_p99_s=float(np.quantile(took_s[shed], 0.99)) if shed.any() else 0.0,
        resident_bytes=resident_bytes(pid),
        generator_cpu=run.generator_cpu,
        waited=(waited_s(pid) - waited) / seconds,
    )


def _in_time(run: RawRun) -> int:
    took_ns = run.columns["last_byte_ns"] - run.columns["send_ns"]
    return int(((run.columns["outcome"] == Outcome.OK) & (took_ns <= DEADLINE_MS * 1e6)).sum())


def _print(turns: list[list[Step]], capacity: float) -> None:
    print(f"overload: {capacity:.0f} requests/s in a closed loop of {USERS} users; a deadline of {DEADLINE_MS} ms")
    for at, load in enumerate(LOADS):
        steps = [turn[at] for turn in turns]
        shares = [turn[at].goodput / max(one.goodput for one in turn if one.load <= 1) for turn in turns]
        shed = [one.shed_p99_s for one in steps if one.shed]
        print(
            f"overload: {load:4.1f} x: goodput {np.median([one.goodput for one in steps]):.0f}/s, "
            f"{np.median(shares):.1%} of its peak (wanted: 95 %); late {sum(one.late for one in steps)} of "
            f"{sum(one.answered for one in steps):,} (wanted: 0); "
            f"{sum(one.shed for one in steps):,} shed, p99 {np.median(shed) * 1e3 if shed else 0:.2f} ms "
            f"(wanted: 5); {sum(one.other for one in steps)} others; "
            f"resident {steps[-1].resident_bytes / 1e6:.0f} MB; "
            f"generator {max(one.generator_cpu for one in steps):.0%}, "
            f"the server waited {max(one.waited for one in steps):.0%} for its core"
        )
    first, last = turns[0][1].resident_bytes, turns[-1][-1].resident_bytes
    print(f"overload: resident after 10 x: {last / first:.3f} of that after the first 1 x (wanted: flat)")
