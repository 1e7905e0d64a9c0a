"""Servers and wrk as pinned processes: one core for the server, another for the load."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SERVER_CORE, LOAD_CORE = "0", "1"
PATIENCE_S = 30.0
UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class Unmeasurable(Exception):
    """A scenario cannot run on this machine; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Load:
    """The output of wrk: requests a second, and latency percentiles in seconds."""

    rate: float
    p50_s: float
    p99_s: float
    failures: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def served(
    arguments: Sequence[str], port: int, log: Path, cores: str = SERVER_CORE, root: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process on the server's core, or on ``cores``, that answers HTTP on ``port``, until the block ends.
    ``root``: the checkout that it runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", cores, sys.executable, *arguments], cwd=root, stdout=output, stderr=output
        )
        try:
            wait_until_up(port, process, log)
            yield process
        finally:
            process.terminate()
            process.wait()


def slipway(model: Path, port: int, *flags: str) -> list[str]:
    """Arguments that serve a model on one core."""
    options = ["--instances", "1", "--threads", "1", "--admin"]
    return ["serve.py", "--model", str(model), "--port", str(port), *options, *flags]


def wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> float:
    """The instant of ``perf_counter`` at the first 200 on /ping. Raises Unmeasurable with the log after 30 s."""
    give_up = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < give_up and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return time.perf_counter()
            connection.close()
        except OSError:
            pass
        time.sleep(0.002)
    raise Unmeasurable(f"no server on port {port}; its log: {log.read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def on_core(core: str) -> Iterator[None]:
    """Pin this process to one core until the block ends, for a load that it sends itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def cpu_s(pid: int) -> float:
    """Processor time of a process, in seconds, to a nanosecond where its threads live on."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


def waited_s(pid: int) -> float:
    """Seconds in which the main thread of a process was ready to run and had no core."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


def wrk(port: int, script: Path, connections: int, seconds: int, core: str = LOAD_CORE) -> Load:
    """Closed-loop load by wrk on the load's core, or on ``core``."""
    if shutil.which("wrk") is None:
        raise Unmeasurable("wrk is not installed; Debian has it as the package wrk")
    url = f"http://127.0.0.1:{port}/invocations"
    command = ["taskset", "-c", core, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    done = subprocess.run([*command, "-s", str(script), url], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasurable(f"wrk failed: {done.stderr.strip()}")
    out = done.stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if rate is None:
        raise Unmeasurable(f"wrk printed no rate: {out}")
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    failures = (int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0)
    return Load(float(rate[1]), _percentile(out, "50%"), _percentile(out, "99%"), failures)


def wrk_script(path: Path) -> Path:
    """A wrk script that posts one row of 64 floats in JSON."""
    numbers = ",".join(f"{(index * 37 % 64) / 64 - 0.5:.4f}" for index in range(64))
    path.write_text(
        'wrk.method = "POST"\n'
        'wrk.headers["Content-Type"] = "application/json"\n'
        f"wrk.body = '{{\"instances\":[[{numbers}]]}}'\n",
        encoding="ascii",
    )
    return path


def _percentile(out: str, name: str) -> float:
    found = re.search(rf"\s{name}\s+([\d.]+)(us|ms|s)", out)
    if found is None:
        raise Unmeasurable(f"wrk printed no {name}: {out}")
    return float(found[1]) * UNITS_S[found[2]]
