"""The scraper: reads the server's metrics and its machine's counters during a load, in a process of its own.

    python -m bench.observe.scrape HOST PORT [--tls]

reads once, prints a line, reads again until its standard input closes, and writes all readings as one JSON document.
One reading is called a look. The process is separate, because parsing on the thread that sends requests would add
latency.
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
from random import Random
from typing import Any

from ..load.target import Target
from . import tree
from .proc import ServerFiles, is_here, network, stat

TICK_S = 0.2
# Rendering metrics takes a millisecond or two of the server's event loop, and requests wait meanwhile: once a second.
TICKS_PER_SCRAPE = 5
LATEST = 0.8
"""Of a tick, when a look may begin."""
MAX_TICKS = 6_000
TIMEOUT_S = 2.0
END_TIMEOUT_S = 10.0
READY = "looked once"
MAX_BODY_BYTES = 4_000_000
METRIC_PREFIXES = (
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
    """The looks at a server, filled when the block of ``scraping`` ends. ``notes``: which figures are missing, and why.

    Each look is a dictionary with ``t_ns`` (perf_counter, which all processes of a machine share), ``ping_ns``, and the
    names of ``ServerFiles.read`` and ``network``. Every ``TICKS_PER_SCRAPE``-th look also has ``scrape_ns`` and
    ``metrics`` (text). ``pid``: the listening process; None if it cannot be seen.
    """

    looks: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pid: int | None = None
    clock_ticks_per_s: int = 100


@contextmanager
def scraping(target: Target) -> Iterator[Scraped]:
    """Scrape the target's server during the block. A look that fails is missing, and raises nothing.

    The block begins after the first look, so that the start of the process does not slow down the load.
    """
    scraped = Scraped()
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
            yield scraped
        finally:
            _collect(process, scraped)


def _collect(process: subprocess.Popen[str], scraped: Scraped) -> None:
    try:
        text, _ = process.communicate(timeout=END_TIMEOUT_S)
        document = json.loads(text)
        scraped.looks, scraped.notes, scraped.pid = document["looks"], document["notes"], document["pid"]
        scraped.clock_ticks_per_s = document["clock_ticks_per_s"]
    except (subprocess.TimeoutExpired, ValueError, KeyError, OSError):
        process.kill()
        scraped.notes.append("The process that scrapes the server failed: there is no server timeline.")


class Client:
    """One kept-alive connection, for the routes /ping and /metrics."""

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
        """The time until the response in ns, and its body; None for a status other than 200, and without a response."""
        start_ns = time.perf_counter_ns()
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read(MAX_BODY_BYTES)
            text = body.decode("utf-8", "replace") if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            self._connection.close()
            text = None
        return time.perf_counter_ns() - start_ns, text


def look(client: Client, files: ServerFiles | None, with_metrics: bool, here: bool = True) -> dict[str, Any]:
    """One look, as described in ``Scraped``. ``here``: the server runs on this machine."""
    values: dict[str, Any] = {"t_ns": time.perf_counter_ns(), **network(loopback=here)}
    if here:
        bench = (os.getpid(), *tree.generators(os.getppid()))
        values["bench_ticks"] = sum(stat(pid).get("cpu_ticks", 0.0) for pid in bench)
    ping_ns, ping_body = client.get("/ping")
    if ping_body is not None:
        values["ping_ns"] = ping_ns
    if files is not None:
        values |= files.read()
    if with_metrics:
        scrape_ns, text = client.get("/metrics")
        if text is not None:
            lines = [line for line in text.splitlines() if line.startswith(METRIC_PREFIXES)]
            values |= {"scrape_ns": scrape_ns, "wall_s": time.time(), "metrics": "\n".join(lines) + "\n"}
    return values


def look_with_strangers(
    client: Client, files: ServerFiles, port: int, with_metrics: bool, here: bool
) -> dict[str, Any]:
    """A look that also counts the connections of other clients.

    They are counted before the request for /ping: its answer comes when the server has done with the others.
    """
    own_pids = (os.getpid(), *tree.generators(os.getppid()), *files.pids)
    strangers = tree.strangers(port, own_pids)
    return {**look(client, files, with_metrics, here), "strangers": strangers}


def watch(host: str, port: int, tls: bool) -> dict[str, Any]:
    """Look once in every ``TICK_S`` until standard input ends. After a slow look, missed ticks are skipped.

    Looks come at random within their ticks: at even times they would always miss, or meet, another client that sends
    at even times.
    """
    random = Random(0)
    client, notes = Client(host, port, tls), []
    here = is_here(host)
    pids = server_of(client, port) if here else ()
    pid = pids[0] if pids else None
    if not here:
        notes.append("The server runs on another machine: its CPU, throttling and run queue are unknown.")
    elif pid is None:
        notes.append(
            "No process of the server can be seen from here (a container, or behind a proxy?): its CPU and memory are "
            "unknown."
        )
    files = ServerFiles(tree.family(pids)) if pid is not None else None
    looks = [look(client, files, with_metrics=True, here=here)]
    print(READY, flush=True)
    has_metrics = "metrics" in looks[0]
    if not has_metrics:
        notes.append("The server has no /metrics: queue length, cost table and load time are unknown.")
    start_s, tick = time.monotonic(), 1
    while tick < MAX_TICKS:
        due_s = start_s + (tick + LATEST * random.random()) * TICK_S
        stdin_closed, _, _ = select.select([sys.stdin], [], [], max(due_s - time.monotonic(), 0))
        is_full_look = bool(stdin_closed) or tick % TICKS_PER_SCRAPE == 0
        if files is not None and is_full_look:
            files.pids = tree.family(pids)
        with_metrics = has_metrics and is_full_look
        if files is not None and (is_full_look or tick % 2 == 0):
            looks.append(look_with_strangers(client, files, port, with_metrics, here))
        else:
            looks.append(look(client, files, with_metrics, here))
        if stdin_closed:
            break
        tick = max(tick + 1, int((time.monotonic() - start_s) / TICK_S))
    return {"looks": looks, "notes": notes, "pid": pid, "clock_ticks_per_s": os.sysconf("SC_CLK_TCK")}


def server_of(client: Client, port: int) -> tuple[int, ...]:
    """The processes of this machine that serve a port, by the start time in the server's metrics if it has one."""
    _, text = client.get("/metrics")
    lines = [line.split() for line in (text or "").splitlines() if line.startswith("process_start_time_seconds ")]
    try:
        return tree.server(port, float(lines[0][1]) if lines else None)
    except (IndexError, ValueError):
        return tree.server(port)


def processes(target: Target) -> tuple[int, ...]:
    """All processes of the server, the listening one first; empty if none can be seen."""
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
    args = parser.parse_args()
    with suppress(BrokenPipeError):
        json.dump(watch(args.host, args.port, args.tls), sys.stdout)


if __name__ == "__main__":
    main()
