"""Two processes on two cores against one on one, and against two servers; and the memory of a second process.

This machine has two cores and the load needs some of them. So each server process shares its core with one wrk: one
core runs a process and a wrk, two cores run two of each. Two servers of one process each show what the machine itself
takes from two processes at once: with the load of their own core alone, and mixed as the kernel mixes the connections
of two processes, half of each core's load to either server. The processor time of a request is measured beside the
rate.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.peers import networks
from optimize.passes.leveled_from_float32 import write
from server import artifact
from server.artifact import Manifest
from server.backends import BackendOptions, loader
from tests.benchmarks.server.processes import cpu_s, free_port, served, slipway, wrk, wrk_script

CONNECTIONS = 32
"""From each core."""

CORES = ("0", "1")


@dataclass(frozen=True, slots=True)
class Measured:
    """Requests a second, p99 in seconds of the slower wrk, processor time of one request in microseconds, and the share
    of the busier process in it."""

    rate: float
    p99_s: float
    cpu_us: float
    busier: float


def replicas(work: Path, rounds: int, seconds: int) -> None:
    """The rate of two processes on two cores over that of one on one, in turns; then memory."""
    model = work / "perceptron.onnx"
    networks.perceptron(model)
    script = wrk_script(work / "post.lua")
    one, other, two = free_port(), free_port(), free_port()
    alone: list[Measured] = []
    apart: list[Measured] = []
    mixed: list[Measured] = []
    both: list[Measured] = []
    with (
        served(slipway(model, one), one, work / "one.log", CORES[0]) as first,
        served(slipway(model, other), other, work / "other.log", CORES[1]) as second,
        served(slipway(model, two, "--processes", "2"), two, work / "two.log", ",".join(CORES)) as pair,
    ):
        children = _children(pair.pid)
        for pid, core in zip(children, CORES, strict=True):
            _pin(pid, core)
        for _ in range(rounds):
            servers = [first.pid, second.pid]
            own = list(zip((one, other), CORES, strict=True))
            alone.append(_measure(own[:1], script, [first.pid], seconds))
            apart.append(_measure(own, script, servers, seconds))
            mixed.append(_measure(list(itertools.product((one, other), CORES)), script, servers, seconds))
            both.append(_measure([(two, core) for core in CORES], script, children, seconds))
    for name, rows in (
        ("1 process, 1 core", alone),
        ("2 servers, own load", apart),
        ("2 servers, mixed load", mixed),
        ("2 processes, 2 cores", both),
    ):
        print(
            f"replicas: {name:21}: {_median(rows, 'rate'):,.0f}/s, p99 {_median(rows, 'p99_s') * 1e3:.2f} ms, "
            f"{_median(rows, 'cpu_us'):.1f} us of processor time a request, "
            f"{_median(rows, 'busier'):.0%} of it in the busier process"
        )
    for name, rows in (("one", alone), ("two servers, mixed", mixed)):
        rate = statistics.median(b.rate / a.rate for a, b in zip(rows, both, strict=True))
        tail = statistics.median(b.p99_s / a.p99_s for a, b in zip(rows, both, strict=True))
        print(f"replicas: 2 processes over {name}: rate {rate:.2f}, p99 {tail:.2f}")
    _memory(work)


def _measure(loads: Sequence[tuple[int, str]], script: Path, pids: Sequence[int], seconds: int) -> Measured:
    """A wrk for each port and core of ``loads``; those of one core share its connections."""
    before_s = [cpu_s(pid) for pid in pids]
    connections = CONNECTIONS * len({core for _, core in loads}) // len(loads)
    with ThreadPoolExecutor(len(loads)) as pool:
        found = list(pool.map(lambda load: wrk(load[0], script, connections, seconds, load[1]), loads))
    spent_s = [cpu_s(pid) - before for pid, before in zip(pids, before_s, strict=True)]
    rate = sum(load.rate for load in found)
    if any(load.failures for load in found):
        raise RuntimeError("some requests failed")
    tail_s = max(load.p99_s for load in found)
    return Measured(rate, tail_s, sum(spent_s) / (rate * seconds) * 1e6, max(spent_s) / sum(spent_s))


def _pin(pid: int, core: str) -> None:
    """All threads of a process on one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {int(core)})


def _memory(work: Path) -> None:
    """Memory of one and of two processes with large weights, in a plain file and as ``optimize`` writes them: resident,
    and with shared pages divided among all processes (PSS)."""
    plain, mapped = work / "plain", work / "mapped"
    for folder in (plain, mapped):
        folder.mkdir()
    networks.perceptron(plain / "model.onnx", hidden=4_000)
    size = (plain / "model.onnx").stat().st_size
    write(plain / "model.onnx", mapped / "model.onnx", "all")
    session = loader("onnxruntime")(plain / "model.onnx", BackendOptions(threads=1))
    provenance = {"prepacked": True}
    artifact.write(mapped, Manifest("m", "1", "onnxruntime", "model.onnx", session.spec, provenance=provenance))
    session.close()
    for folder in (plain, mapped):
        for count in (1, 2):
            port = free_port()
            flags = ("--processes", str(count))
            with served(slipway(folder, port, *flags), port, work / "memory.log", "0,1") as process:
                pids = _children(process.pid) or [process.pid]
                resident, divided = (sum(_memory_kb(pid, key) for pid in pids) / 1e3 for key in ("Rss", "Pss"))
            print(
                f"replicas: {folder.name:6} weights of {size / 1e6:.0f} MB, {count} processes: "
                f"{resident:.0f} MB resident, {divided:.0f} MB with shared pages divided"
            )


def _median(rows: Sequence[Measured], field: str) -> float:
    return statistics.median(float(getattr(row, field)) for row in rows)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _memory_kb(pid: int, key: str) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{key}:"))
