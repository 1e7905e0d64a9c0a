"""The cost of a swap of versions: p99 of the swapped model and of another model on the server, at a fixed rate."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from numpy.typing import NDArray

from bench.load import engine, schedule, target
from bench.load.measurements import Outcome
from bench.load.payload import Payload
from bench.load.raw_run import RawRun
from bench.load.server_timing import CARRIERS
from bench.load.shot import Shot
from bench.load.wire import render
from bench.peers import networks
from tests.benchmarks.server.processes import LOAD_CORE, PATIENCE_S, SERVER_CORE, free_port, served, slipway

SHARE = 0.4
"""Utilisation of the server by both models, from the time of a single row."""

SWAP_AT = 0.2
"""Begin of the swap, as a share of the measured time."""

SECONDS = 3.0
"""Least length of a measurement: a swap has to fit."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One measurement of both models: seconds from the intended instant to the answer."""

    swapped_s: NDArray[np.float64]
    neighbour_s: NDArray[np.float64]
    failures: int
    load_s: float = 0.0


def swap(work: Path, rounds: int, seconds: float) -> None:
    """Swap versions under load: failed requests, and p99 of both models against p99 without a swap.

    Once with a second core for the load and warm-up of the new version, and once with everything on one core.
    """
    for cores, where in ((f"{SERVER_CORE},{LOAD_CORE}", "two cores"), (SERVER_CORE, "one core")):
        (work / where).mkdir()
        _swap(work / where, rounds, max(seconds, SECONDS), cores, where)


def _swap(work: Path, rounds: int, seconds: float, cores: str, where: str) -> None:
    folder = work / "models"
    for name in ("swapped", "neighbour"):
        (folder / name / "1").mkdir(parents=True)
        networks.convolutions(folder / name / "1" / "model.onnx", channels=64, layers=12)
    port = free_port()
    flags = ("--default-model", "swapped", "--inline-below-us", "0")
    with served(slipway(folder, port, *flags), port, work / "slipway.log", cores):
        call(port, "GET", "/admin/models")  # imports FastAPI, as the first cold request of any kind does
        rate = SHARE / row_seconds(port) / 2
        calm, swapped = [], []
        for index in range(rounds):
            calm.append(measure(port, rate, seconds, index))
            version = str(2 + index)
            shutil.copytree(folder / "swapped" / "1", folder / "swapped" / version)
            swapped.append(measure(port, rate, seconds, index, version=version))
    failures = sum(one.failures for one in calm + swapped)
    answers = sum(len(one.swapped_s) + len(one.neighbour_s) for one in calm + swapped)
    load_s = statistics.median(one.load_s for one in swapped)
    print(
        f"swap on {where}: {rounds} swaps of {load_s:.2f} s, each in {seconds:g} s, at 2 x {rate:.0f} requests/s: "
        f"{failures} of {answers:,} requests failed"
    )
    for what, field, wanted in (("swapped model", "swapped_s", 1.5), ("neighbour", "neighbour_s", 1.3)):
        before, after = p99_s(calm, field), p99_s(swapped, field)
        print(
            f"swap on {where}: p99 of the {what}: {after * 1e3:.1f} ms with a swap, {before * 1e3:.1f} ms without: "
            f"{after / before:.2f} x (wanted: at most {wanted} x)"
        )


def p99_s(stretches: Sequence[Measured], field: str) -> float:
    """p99 over the answers of all measurements: one alone has too few for it."""
    return float(np.quantile(np.concatenate([getattr(one, field) for one in stretches]), 0.99))


def measure(port: int, rate: float, seconds: float, seed: int, version: str = "") -> Measured:
    """Send both models requests at ``rate`` for some seconds, with a swap to ``version`` if it is given."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(port, rate, seconds, seed, version))


async def _measure(port: int, rate: float, seconds: float, seed: int, version: str) -> Measured:
    loads = [
        engine.send(shot(port, path), schedule.build("poisson", rate, seconds, 2 * seed + index))
        for index, path in enumerate(("/invocations", "/v2/models/neighbour/infer"))
    ]
    swapping = asyncio.ensure_future(_swap_later(port, SWAP_AT * seconds)) if version else None
    swapped, neighbour = await asyncio.gather(*loads)
    load_s = await swapping if swapping is not None else 0.0
    runs = (swapped, neighbour)
    return Measured(
        swapped_s=_latencies_s(swapped),
        neighbour_s=_latencies_s(neighbour),
        failures=sum(int((one.columns["outcome"] != Outcome.OK).sum()) for one in runs),
        load_s=load_s,
    )


async def _swap_later(port: int, delay_s: float) -> float:
    await asyncio.sleep(delay_s)
    begun = time.perf_counter()
    await asyncio.to_thread(call, port, "POST", "/v2/repository/models/swapped/load")
    return time.perf_counter() - begun


def row_seconds(port: int) -> float:
    """The time of one row alone."""
    body = _body("/invocations")
    taken = []
    for _ in range(50):
        begun = time.perf_counter()
        call(port, "POST", "/invocations", body)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def call(port: int, method: str, path: str, body: bytes = b"") -> bytes:
    """One request that has to succeed; the body of its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
    return text


def shot(port: int, path: str, connections: int = 64) -> Shot:
    """One row of numbers for a route of a server here."""
    place = target.parse(f"http://127.0.0.1:{port}{path}")
    wire = render(place, Payload("row", "application/json", _body(path)), CARRIERS["none"])
    only = np.zeros(1, np.uint16)
    return Shot(place, (wire,), only, CARRIERS["none"], timeout_s=30.0, max_connections=connections)


def _body(path: str) -> bytes:
    row = [(index * 37 % 64) / 64 - 0.5 for index in range(networks.WIDTH)]
    if path == "/invocations":
        return json.dumps({"instances": [row]}).encode()
    tensor = {"name": "x", "shape": [1, networks.WIDTH], "datatype": "FP32", "data": row}
    return json.dumps({"inputs": [tensor]}).encode()


def _latencies_s(run: RawRun) -> NDArray[np.float64]:
    """From the intended instant, over the requests that were answered."""
    ok = run.columns["outcome"] == Outcome.OK
    latencies: NDArray[np.float64] = (run.columns["last_byte_ns"][ok] - run.columns["due_ns"][ok]) / 1e9
    return latencies
