"""Plants: real servers with one real fault each, and the cause that ``bench run`` names first.

Faults are planted from outside: other processes, signals, control groups, a proxy, or the code of a small model server.
Nothing in ``bench`` knows of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.load.child_server import child_server
from tests.benchmarks.bench import slipway_plants
from tests.benchmarks.bench.figure import Figure

ROOT = Path(__file__).resolve().parents[3]
RUN_S = 12.0
Around = Callable[[str], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Plant:
    """One fault. ``right``: the names of the cause that are right. ``around``: what happens outside of the server."""

    name: str
    right: tuple[str, ...]
    app: tuple[str, ...] = ("none",)
    rate: float = 40.0
    numbers: tuple[int, ...] = (64,)
    around: Callable[[str, int], Any] | None = None
    other_rate: float = 0.0
    network: tuple[int, int, int] | None = None
    script: str | None = None
    serve: tuple[str, ...] = ()
    warmup_s: float = 1.0
    options: tuple[str, ...] = ()


@contextmanager
def burners(count: int, pid: int) -> Iterator[None]:
    """Programs that use a core each, beside a server that has no precedence over them."""
    _as_others(pid)
    code = "import os; os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))\nwhile True: pass"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


@contextmanager
def stopping(pid: int, every_s: float, for_s: float) -> Iterator[None]:
    """SIGSTOP and SIGCONT to a process, again and again."""
    over = threading.Event()

    def stop() -> None:
        while not over.wait(every_s):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(for_s)  # the plant itself is a stop of this length
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def quota(pid: int, cores: float) -> Iterator[None]:
    """A CPU quota for one process, in a control group of version 1 of its own."""
    group = Path("/sys/fs/cgroup/cpu") / f"slipway-plant-{pid}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text(str(int(cores * 100_000)))
        _as_others(pid)  # a group without a share of real-time takes no process that runs ahead of others
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        with suppress(OSError):
            (group.parent / "cgroup.procs").write_text(str(pid))
        with suppress(OSError):
            group.rmdir()


@contextmanager
def proxied(url: str, kind: str, value: float) -> Iterator[str]:
    """The URL of a proxy that limits bytes per second or adds latency."""
    with child_server("tests.benchmarks.bench.slow_proxy", url, kind, str(value)) as address:
        yield address


@contextmanager
def other_client(url: str, path: str, body: Path, rate: float) -> Iterator[None]:
    """A second client with a load of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench.plants", url + path, str(body), str(rate)]
    running = subprocess.Popen(command, cwd=ROOT)
    try:
        yield
    finally:
        running.kill()
        running.wait()


FASTAPI = (
    Plant("nothing", ("none",)),
    Plant("overload", ("capacity",), ("spin", "0.02"), rate=80),
    Plant("lock around a sleep", ("serial",), ("lock", "0.02"), rate=35),
    Plant("one worker blocks", ("serial",), ("block", "0.02"), rate=35),
    Plant("lock, saturated", ("serial",), ("lock", "0.02"), rate=70),
    Plant("batch timer", ("batch_timer",), ("timer", "0.03"), rate=20),
    Plant("long sleep in parallel", ("none",), ("sleep", "0.05"), rate=20),
    Plant("spin", ("hardware",), ("spin", "0.03"), rate=8),
    Plant("large JSON body", ("codec",), numbers=(60_000,), rate=8),
    Plant("large JSON reply", ("codec",), ("reply", "60000"), numbers=(64,), rate=8),
    Plant("weights", ("model_size",), ("weights", "400000000"), rate=5),
    Plant("long inputs", ("input_size",), ("length", "0.000004"), numbers=(*[64] * 7, 20_000), rate=15),
    Plant("threads", ("threads",), ("threads", "12"), rate=4),
    Plant("cold start", ("cold_start",), ("cold", "1.5"), warmup_s=0.0),
    Plant("connections closed", ("connections",), ("close",)),
    Plant("pauses of the process", ("stall",), ("pauses", "2")),
    Plant("SIGSTOP", ("stall",), around=lambda url, pid: stopping(pid, 2.0, 0.3)),
    Plant("CPU quota", ("cpu_quota",), ("spin", "0.01"), rate=20, around=lambda url, pid: quota(pid, 0.25)),
    Plant("neighbours", ("neighbour",), around=lambda url, pid: burners(4, pid)),
    Plant("slow link", ("bandwidth",), numbers=(4_000,), rate=10, around=lambda url, pid: proxied(url, "rate", 1e6)),
    Plant("far away", ("network_latency",), rate=20, around=lambda url, pid: proxied(url, "delay", 0.02)),
    Plant("another client", ("other_traffic",), ("lock", "0.01"), rate=15, other_rate=55.0),
)


SMALL, WIDE, HEAVY = (64, 64, 2), (20_000, 16, 1), (256, 2_000, 4)
"""Dense networks: inputs, hidden size, layers."""
SLIPWAY = (
    Plant("nothing", ("none",), network=SMALL, rate=100),
    Plant("overload", ("capacity",), network=HEAVY, serve=("--max-batch-size", "1"), rate=1_200),
    Plant("script with a lock", ("serial",), script="with LOCK: time.sleep(0.02)", rate=35),
    Plant("one worker", ("serial",), script="time.sleep(0.02)", serve=("--script-workers", "1"), rate=35),
    Plant("batch timer", ("batch_timer",), network=SMALL, serve=("--max-queue-delay-us", "30000"), rate=20),
    Plant("heavy model", ("hardware", "model_size"), network=(256, 4_000, 8), rate=5),
    Plant("large JSON body", ("codec",), network=WIDE, rate=20),
    Plant("SIGSTOP", ("stall",), network=SMALL, around=lambda url, pid: stopping(pid, 2.0, 0.3)),
    Plant("CPU quota", ("cpu_quota",), network=HEAVY, rate=40, around=lambda url, pid: quota(pid, 0.05)),
    Plant("neighbours", ("neighbour",), network=HEAVY, rate=30, around=lambda url, pid: burners(4, pid)),
    Plant("slow link", ("bandwidth",), network=WIDE, rate=2, around=lambda url, pid: proxied(url, "rate", 2e6)),
    Plant(
        "far away", ("network_latency",), network=SMALL, rate=20, around=lambda url, pid: proxied(url, "delay", 0.02)
    ),
    Plant("another client", ("other_traffic",), script="with LOCK: time.sleep(0.01)", rate=15, other_rate=60.0),
)


def first_causes(plant: Plant, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The causes that a run against the plant names, and the whole record."""
    with ExitStack() as stack:
        path, url = _served(plant, folder, stack)
        pid = _listener(url)
        bodies = []
        for number, count in enumerate(plant.numbers):
            body = folder / f"{plant.name.replace(' ', '_').replace(',', '')}_{number}.json"
            values = np.random.default_rng(number).standard_normal(count).round(6).tolist()
            body.write_text(json.dumps(_body(plant, values)))
            bodies.append(str(body))
        if plant.other_rate:
            stack.enter_context(other_client(url, path, Path(bodies[0]), plant.other_rate))
        if plant.around is not None:
            url = stack.enter_context(plant.around(url, pid)) or url
        output = folder / "run.json"
        output.unlink(missing_ok=True)
        command = [sys.executable, "-m", "bench", "run", url + path, "--payload", *bodies, "--rate", str(plant.rate)]
        command += ["--duration", str(RUN_S), "--warmup", str(plant.warmup_s), "--json", "--output", str(output)]
        done = subprocess.run([*command, *plant.options], cwd=ROOT, capture_output=True, text=True, check=False)
        if not output.exists():
            raise RuntimeError(done.stderr)
        record = json.loads(output.read_text())
        output.with_name(f"{plant.name.replace(' ', '_')}.json").write_text(json.dumps(record))
        return record["verdict"]["causes"], record


def _served(plant: Plant, folder: Path, stack: ExitStack) -> tuple[str, str]:
    """The path and the address of the planted server, which runs until the stack ends."""
    if plant.network is None and plant.script is None:
        return "/predict", stack.enter_context(child_server("tests.benchmarks.bench.plant_app", *plant.app))
    model = Path(tempfile.mkdtemp(dir=folder)) / "planted"
    if plant.network is not None:
        slipway_plants.network(model, *plant.network)
    else:
        slipway_plants.script(model, plant.script or "pass")
    return "/invocations", stack.enter_context(slipway_plants.served(model, plant.serve))


def _body(plant: Plant, values: list[float]) -> dict[str, Any]:
    if plant.network is None:
        return {"values": values}
    row = (values * (plant.network[0] // max(len(values), 1) + 1))[: plant.network[0]]
    return {"inputs": [{"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": row}]}


def table(plants: tuple[Plant, ...] = (*FASTAPI, *SLIPWAY), folder: str | None = None) -> list[Figure]:
    """Each plant with the causes that were named, and whether the first one is right."""
    _above_others()
    found, right = [], 0
    with tempfile.TemporaryDirectory() as place:
        for plant in plants:
            causes, _record = first_causes(plant, Path(folder or place))
            names = [f"{one['name']} ({one['confidence']})" for one in causes]
            met = causes[0]["name"] in plant.right
            right += met
            server = "FastAPI" if plant.network is None and plant.script is None else "Slipway"
            found.append(Figure(f"{server}: {plant.name}", ", ".join(names), " or ".join(plant.right), met))
            print(found[-1], flush=True)
    share = right / len(plants)
    return [*found, Figure("right first", f"{share:.0%}", "at least 80%", share >= 0.8)]


def _above_others() -> None:
    """Run this process and its children ahead of other programs of the machine, where the user may."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _as_others(pid: int) -> None:
    """Take the precedence of ``_above_others`` from the threads of a process."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))


def _listener(url: str) -> int:
    from bench.observe import tree

    port = int(url.rpartition(":")[2])
    while not (found := tree.listeners(port)):
        time.sleep(0.05)  # the port is known before the server listens on it
    return found[0]


def _client(url: str, body: Path, rate: float) -> None:
    """The other client: requests at even times, on threads, for ever."""
    import urllib.request

    data = body.read_bytes()

    def send() -> None:
        with suppress(OSError):
            request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=10).read()

    due = time.monotonic()
    while True:
        due += 1 / rate
        time.sleep(max(due - time.monotonic(), 0))
        threading.Thread(target=send, daemon=True).start()


if __name__ == "__main__":
    _client(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
