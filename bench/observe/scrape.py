"""The scraper: reads the server's metrics and its machine's counters during a load, from a process of its own.

    python -m bench.observe.scrape HOST PORT [--tls]

reads once, prints a line, then reads until its standard input closes and writes everything as one JSON document. It is
a process of its own, because parsing on the thread that sends requests would show up as latency.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import select
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..load.target import Target
from . import tree
from .proc import ServerFiles, is_here, network, stat

TICK_S = 0.2
# Rendering metrics takes a millisecond or two of the server's event loop, and requests wait meanwhile: once a second.
TICKS_PER_SCRAPE = 5
MAX_TICKS = 6_000
TIMEOUT_S = 2.0
END_S = 10.0
READY = "looked once"
MAX_BODY_BYTES = 4_000_000
WANTED = (
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"),
    *("slipway_queue_rows", "slipway_backlog_seconds", "slipway_load_seconds", "slipway_cost_seconds"),
    *("slipway_batch_rows_sum", "slipway_batch_rows_count", "slipway_request_seconds_sum"),
    *("slipway_request_seconds_count", "slipway_stage_seconds_sum"),
    *("slipway_run_seconds_total", "slipway_instances", "slipway_compute_threads", "slipway_padded_positions_total"),
    *("slipway_model_file_bytes", "slipway_gc_pause_seconds_sum", "slipway_gc_pause_seconds_count"),
    *("slipway_loop_lag_seconds_sum", "slipway_loop_lag_seconds_count", "slipway_context_switches_total"),
    *("slipway_cores", "slipway_step_batch_rows_sum", "slipway_step_batch_rows_count", "slipway_step_seconds_sum"),
    *("slipway_step_seconds_count", "slipway_step_run_seconds_total", "slipway_step_cost_seconds"),
    *("slipway_max_batch_size", "slipway_max_queue_delay_seconds", "slipway_max_queue_seconds"),
    *("slipway_inline", "slipway_contention_ratio", "slipway_device_shared", "slipway_run_cpu", "slipway_last_pause"),
    *("slipway_step_run_cpu", "slipway_accepted_connections_total", "slipway_slowdowns"),
    *("slipway_step_instances", "slipway_step_compute_threads", "slipway_step_padded_positions_total"),
)
_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Scraped:
    """One dictionary per look, and ``notes`` on figures that are missing and why. Filled when the block ends.

    A look has ``t_ns`` (perf_counter, which all processes of a machine share), ``ping_ns``, the names of
    ``ServerFiles.read`` and ``network``, and every ``TICKS_PER_SCRAPE``-th look ``scrape_ns`` and ``metrics`` (text).
    """

    looks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pid: int | None = None
    clock_ticks_per_s: int = 100


@contextmanager
def scraping(target: Target) -> Iterator[Scraped]:
    """Look at the target's server while the block runs. A look that fails is missing and does not end the load.

    The block begins after the first look. Starting a process takes a core for a moment, and a load without a warm-up
    would measure that.
    """
    found = Scraped()
    command = [sys.executable, "-m", "bench.observe.scrape", target.host, str(target.port)]
    with subprocess.Popen(
        [*command, "--tls"] if target.tls else command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_REPOSITORY,
        start_new_session=True,  # Ctrl-C ends the load, and the looks until then are kept
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield found
        finally:
            _collect(process, found)


def _collect(process: subprocess.Popen[str], into: Scraped) -> None:
    try:
        text, _ = process.communicate(timeout=END_S)
        document = json.loads(text)
        into.looks, into.notes, into.pid = document["looks"], document["notes"], document["pid"]
        into.clock_ticks_per_s = document["clock_ticks_per_s"]
    except (subprocess.TimeoutExpired, ValueError, KeyError, OSError):
        process.kill()
        into.notes.append("The process that looks at the server failed: there is no server timeline.")


class Client:
    """One kept connection to the server's side routes."""

    def __init__(self, host: str, port: int, tls: bool) -> None:
        context = ssl.create_default_context() if tls else None
        self._connection = (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
            if tls
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        )

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> tuple[int, str | None]:
        """Nanoseconds until the response, and the body of a 200; None for any other status and for no response."""
        begun_ns = time.perf_counter_ns()
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read(MAX_BODY_BYTES)
            text = body.decode("utf-8", "replace") if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            self._connection.close()
            text = None
        return time.perf_counter_ns() - begun_ns, text


def look(client: Client, files: ServerFiles | None, with_metrics: bool, here: bool = True) -> dict[str, Any]:
    """One look, as ``Scraped`` describes it. ``here``: the server runs on this machine."""
    seen: dict[str, Any] = {"t_ns": time.perf_counter_ns(), **network(loopback=here)}
    if here:
        bench = (os.getpid(), *tree.generators(os.getppid()))
        seen["bench_ticks"] = sum(stat(pid).get("cpu_ticks", 0.0) for pid in bench)
    ping_ns, answer = client.get("/ping")
    if answer is not None:
        seen["ping_ns"] = ping_ns
    if files is not None:
        seen |= files.read()
    if with_metrics:
        scrape_ns, text = client.get("/metrics")
        if text is not None:
            lines = [line for line in text.splitlines() if line.startswith(WANTED)]
            seen |= {"scrape_ns": scrape_ns, "wall_s": time.time(), "metrics": "\n".join(lines) + "\n"}
    return seen


def watch(host: str, port: int, tls: bool) -> dict[str, Any]:
    """Look every ``TICK_S`` until standard input ends. Instants that a slow look has missed are skipped."""
    client, notes = Client(host, port, tls), []
    here = is_here(host)
    found = server_of(client, port) if here else ()
    pid = found[0] if found else None
    if not here:
        notes.append("The server runs on another machine: its CPU, throttling and run queue are unknown.")
    elif pid is None:
        notes.append(
            "No process of the server can be seen from here (a container, or behind a proxy?): its CPU and memory are "
            "unknown."
        )
    files = ServerFiles(tree.family(found)) if pid is not None else None
    looks = [look(client, files, with_metrics=True, here=here)]
    print(READY, flush=True)
    has_metrics = "metrics" in looks[0]
    if not has_metrics:
        notes.append("The server has no /metrics: queue length, cost table and load time are unknown.")
    begun_s, tick = time.monotonic(), 1
    while tick < MAX_TICKS:
        ready, _, _ = select.select([sys.stdin], [], [], max(begun_s + tick * TICK_S - time.monotonic(), 0))
        whole = bool(ready) or tick % TICKS_PER_SCRAPE == 0
        if files is not None and whole:
            files.pids = tree.family(found)
        looks.append(look(client, files, has_metrics and whole, here))
        if files is not None and whole:
            looks[-1]["strangers"] = tree.strangers(port, (os.getpid(), *tree.generators(os.getppid()), *files.pids))
        if ready:
            break
        tick = max(tick + 1, int((time.monotonic() - begun_s) / TICK_S))
    return {"looks": looks, "notes": notes, "pid": pid, "clock_ticks_per_s": os.sysconf("SC_CLK_TCK")}


def server_of(client: Client, port: int) -> tuple[int, ...]:
    """The processes of this machine that answer on a port, by the start that the server's metrics tell."""
    _, text = client.get("/metrics")
    lines = [line.split() for line in (text or "").splitlines() if line.startswith("process_start_time_seconds ")]
    try:
        return tree.server(port, float(lines[0][1]) if lines else None)
    except (IndexError, ValueError):
        return tree.server(port)


def processes(target: Target) -> tuple[int, ...]:
    """All processes of the server, the one that listens first; empty if none can be seen."""
    if not is_here(target.host):
        return ()
    client = Client(target.host, target.port, target.tls)
    try:
        return tree.family(server_of(client, target.port))
    finally:
        client.close()


def main() -> None:
    """The program that ``scraping`` starts."""
    parser = argparse.ArgumentParser(prog="python -m bench.observe.scrape")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", action="store_true")
    asked = parser.parse_args()
    with suppress(BrokenPipeError):
        json.dump(watch(asked.host, asked.port, asked.tls), sys.stdout)


if __name__ == "__main__":
    main()
