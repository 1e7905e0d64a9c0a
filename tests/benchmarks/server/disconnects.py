"""Disconnects: a thousand clients a second close their connections at any moment, beside one that checks answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from server import artifact
from server.artifact import Batching, Manifest
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.benchmarks.server.processes import LOAD_CORE, free_port, on_core, resident_bytes, served, slipway, waited_s
from tests.benchmarks.server.swap import call

WIDTH = 64
RATE = 1_000
"""Disconnects a second."""

NEIGHBOUR_RATE = 100
WAIT_US = 2_000
"""Duration of a run, which does not hold the interpreter."""

SETTLE_S = 10.0
RESET = struct.pack("ii", 1, 0)

LEAVINGS = (
    "in the head",
    "in the body",
    "in the body of a cold route",
    "after sending",
    "after sending, by a reset",
    "mid-answer",
)


@dataclass(frozen=True, slots=True)
class Held:
    """Memory, descriptors, threads and waiting rows of a server process."""

    resident_bytes: int
    descriptors: int
    threads: int
    waiting_rows: float

    @classmethod
    def by(cls, pid: int, port: int) -> Held:
        threads = len(os.listdir(f"/proc/{pid}/task"))
        text = call(port, "GET", "/metrics").decode()
        rows = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("slipway_queue_rows{"))
        return cls(resident_bytes(pid), len(os.listdir(f"/proc/{pid}/fd")), threads, rows)


@dataclass(slots=True)
class Neighbour:
    """The latencies and wrong answers of the client that stays."""

    latencies_s: list[float]
    wrong: int = 0
    client_cpu: float = 0.0
    """Share of its core that this process used; near 1 it limits the figures."""

    @property
    def p99_s(self) -> float:
        return float(np.quantile(self.latencies_s, 0.99))


def disconnects(work: Path, rounds: int, seconds: float) -> None:
    """Disconnects for ``rounds`` x ``seconds``, of which 30 s are wanted, alternating with as much time without."""
    root = work / "fake"
    root.mkdir()
    (root / "model.json").write_text(json.dumps({"width": WIDTH, "wait_us": WAIT_US}))
    row = (TensorSpec("x", BY_NAME["FP32"], (-1, WIDTH)),)
    spec = ModelSpec(row, (TensorSpec("y", BY_NAME["FP32"], (-1, WIDTH)),))
    artifact.write(root, Manifest("fake", "1", "fake", "model.json", spec, batching=Batching((1, 2, 4, 8))))
    port = free_port()
    with on_core(LOAD_CORE), served(slipway(root, port), port, work / "slipway.log") as process:
        call(port, "GET", "/admin/models")  # imports FastAPI, as the first cold request of any kind does
        _measure(port, 1.0, leaving=True)  # allocations that happen once are no leak
        before = _settled(process.pid, port, None)
        calm, disturbed, left = [], [], Counter[str]()
        waited = waited_s(process.pid)
        for _ in range(rounds):
            calm.append(_measure(port, seconds, leaving=False)[0])
            seen, kinds = _measure(port, seconds, leaving=True)
            disturbed.append(seen)
            left += kinds
        waited = (waited_s(process.pid) - waited) / (2 * rounds * seconds)
        after = _settled(process.pid, port, before)
    print(f"disconnects: the server's main thread waited {waited:.1%} of the time for its core")
    _print(calm, disturbed, left, rounds * seconds, before, after)


def _print(
    calm: list[Neighbour], disturbed: list[Neighbour], left: Counter[str], seconds: float, before: Held, after: Held
) -> None:
    total = sum(left.values())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in left.items())
    print(f"disconnects: {total:,} in {seconds:g} s, {total / seconds:,.0f}/s (wanted: {RATE:,}): {kinds}")
    answers = sum(len(one.latencies_s) for one in disturbed)
    print(f"disconnects: the neighbour: {sum(one.wrong for one in disturbed)} of {answers:,} answers wrong (wanted: 0)")
    without, during = float(np.median([one.p99_s for one in calm])), float(np.median([one.p99_s for one in disturbed]))
    print(
        f"disconnects: its p99: {during * 1e3:.1f} ms with, {without * 1e3:.1f} ms without: {during / without:.2f} x; "
        f"the clients used {max(one.client_cpu for one in disturbed):.0%} of their core"
    )
    grown = (after.resident_bytes - before.resident_bytes) / 1e6
    print(
        f"disconnects: held before and after: {before.resident_bytes / 1e6:.1f}, {after.resident_bytes / 1e6:.1f} MB "
        f"({grown:+.1f} MB, {grown * 1e6 / max(total, 1):.0f} bytes a disconnect), "
        f"{before.descriptors}, {after.descriptors} descriptors, {before.threads}, {after.threads} threads, "
        f"{after.waiting_rows:g} rows wait"
    )


def _settled(pid: int, port: int, wanted: Held | None) -> Held:
    """What the server holds when all its connections have ended: closing takes it a moment."""
    give_up = time.monotonic() + SETTLE_S
    while True:
        held = Held.by(pid, port)
        calm = held.waiting_rows == 0 and (wanted is None or held.descriptors <= wanted.descriptors)
        if calm or time.monotonic() > give_up:
            return held
        time.sleep(0.1)


def _measure(port: int, seconds: float, leaving: bool) -> tuple[Neighbour, Counter[str]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_both(port, seconds, leaving))


async def _both(port: int, seconds: float, leaving: bool) -> tuple[Neighbour, Counter[str]]:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    disconnecting = asyncio.ensure_future(_disconnect(port, seconds)) if leaving else None
    seen = await _stay(port, seconds)
    left = await disconnecting if disconnecting is not None else Counter[str]()
    seen.client_cpu = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
    return seen, left


async def _stay(port: int, seconds: float) -> Neighbour:
    """One connection that sends a different row each time, at a fixed rate, and checks every answer."""
    seen = Neighbour([])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun = time.perf_counter()
    for number in range(int(seconds * NEIGHBOUR_RATE)):
        due = begun + number / NEIGHBOUR_RATE
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        writer.write(_request("/invocations", _row(number)))
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(_length(head))
        seen.latencies_s.append(time.perf_counter() - due)
        right = head.startswith(b"HTTP/1.1 200") and json.loads(body) == {"predictions": [[2.0 * number] * WIDTH]}
        seen.wrong += not right
    writer.close()
    return seen


async def _disconnect(port: int, seconds: float) -> Counter[str]:
    """Open connections on a schedule; each closes in the next of ``LEAVINGS``. Returns the count of each."""
    left: Counter[str] = Counter()
    begun = time.perf_counter()
    going: set[asyncio.Task[None]] = set()
    for number, leaving in zip(range(int(seconds * RATE)), itertools.cycle(LEAVINGS), strict=False):
        early_s = begun + number / RATE - time.perf_counter()
        if early_s > 0:
            await asyncio.sleep(early_s)
        task = asyncio.ensure_future(_leave(port, leaving, number, left))
        going.add(task)
        task.add_done_callback(going.discard)
    if going:
        await asyncio.wait(going)
    return left


async def _leave(port: int, leaving: str, number: int, left: Counter[str]) -> None:
    path = "/admin/models" if "cold" in leaving else "/invocations"
    whole = _request(path, _row(-number))
    sent = whole
    if leaving == "in the head":
        sent = whole[:40]
    elif leaving.startswith("in the body"):
        sent = whole[:-20]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(sent)
        await writer.drain()
        if leaving == "mid-answer":
            await reader.read(16)
        if leaving in ("mid-answer", "after sending, by a reset"):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.close()
    left[leaving] += 1


def _row(value: int) -> bytes:
    return json.dumps({"instances": [[float(value)] * WIDTH]}).encode()


def _request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode() + b"\r\n" + body


def _length(head: bytes) -> int:
    (line,) = [one for one in head.lower().split(b"\r\n") if one.startswith(b"content-length:")]
    return int(line.partition(b":")[2])
