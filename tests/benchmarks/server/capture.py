"""The throughput that data capture costs at 100 %: the same model with it and without it, in turns."""

from __future__ import annotations

import http.client
import os
import statistics
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.peers import networks
from tests.benchmarks.server.processes import LOAD_CORE, SERVER_CORE, Load, free_port, served, slipway, wrk, wrk_script

WANTED = 0.95


def capture(work: Path, rounds: int, seconds: int) -> None:
    """Requests a second at 32 connections, for a model that takes no time and for one of 1.5 ms a row.

    The server has one core and the load the other. The capture process may use both, as on any host; it is niced.
    """
    script = wrk_script(work / "post.lua")
    for name, make in (("perceptron", networks.perceptron), ("convolutions", networks.convolutions)):
        model, to = work / f"{name}.onnx", work / f"captured-{name}"
        make(model)
        plain, captured = free_port(), free_port()
        with (
            served(slipway(model, plain), plain, work / "plain.log") as reference,
            served(slipway(model, captured, "--capture-to", str(to)), captured, work / "captured.log") as servers,
        ):
            wrk(captured, script, 1, 1)
            spread(capture_process(servers.pid))
            pairs = [(captured, servers.pid), (plain, reference.pid)]
            turns = [[measured(port, pid, script, seconds) for port, pid in pairs] for _ in range(rounds)]
            counts = scraped(captured)
        rates = [(ours[0].rate, other[0].rate) for ours, other in turns]
        ratios = [ours / other for ours, other in rates]
        costs = [(ours[1], other[1]) for ours, other in turns]
        dropped, written = counts["slipway_capture_dropped_total"], counts["slipway_capture_records_total"]
        print(
            f"capture: {name}: {statistics.median(one for one, _ in rates):,.0f}/s against "
            f"{statistics.median(one for _, one in rates):,.0f}/s without: {statistics.median(ratios):.1%} "
            f"({min(ratios):.1%} to {max(ratios):.1%}, wanted: {WANTED:.0%}); the server's processor time a request "
            f"{statistics.median(one for one, _ in costs) * 1e6:.1f} us against "
            f"{statistics.median(one for _, one in costs) * 1e6:.1f} us: "
            f"{statistics.median(other / ours for ours, other in costs):.1%}; "
            f"{written:,.0f} captured, {dropped:,.0f} dropped; cores {SERVER_CORE} and {LOAD_CORE}"
        )


def measured(port: int, pid: int, script: Path, seconds: int) -> tuple[Load, float]:
    """A load, and the processor time that the server process took for each request, in seconds."""
    before = processor_s(pid)
    load = wrk(port, script, 32, seconds)
    return load, (processor_s(pid) - before) / (load.rate * seconds)


def processor_s(pid: int) -> float:
    """Processor time of a process so far, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def capture_process(pid: int) -> int:
    """The only child of a server."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return next(int(one) for thread in threads for one in (thread / "children").read_text(encoding="ascii").split())


def spread(pid: int) -> None:
    """Let a process use both cores."""
    os.sched_setaffinity(pid, {int(SERVER_CORE), int(LOAD_CORE)})


def scraped(port: int) -> dict[str, float]:
    """The metrics of a server, summed over labels."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found
