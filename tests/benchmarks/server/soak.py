"""The mixed soak: every kind of traffic at once, for a time, on a server whose answers, memory and latency are checked.

``python -m tests.benchmarks.server soak --seconds 600``. Clients that check every answer send all formats. Beside them
are hostile requests, disconnects, swaps of versions, loads and unloads, and a script in a worker process.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import random
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from tests.benchmarks.server.attacks import (
    CSV,
    JSON,
    LINES,
    NPY,
    NPZ,
    RECORDS,
    npy,
    npz,
    peak_bytes,
    record,
    repeated,
    sized,
)
from tests.benchmarks.server.processes import Unmeasurable, free_port, resident_bytes, served, waited_s
from tests.benchmarks.server.swap import call
from tests.integration import sample_models

WARM_SHARE = 0.25
"""Share of the time after which memory has settled: imports are done, and allocators have grown."""

LEAST_S = 120.0
"""A shorter run does not judge memory."""

SETTLE_S = 3.0
SWAP_S, LOAD_S, PING_S = 2.0, 1.0, 0.01
CLIENTS = 4
GROWTH, PING_P99_S = 1.05, 0.05
SCRIPT = "def model_fn(model_dir): return 3\ndef predict_fn(data, model): return data * model\n"

HOSTILE = [
    (JSON, repeated(b"[[1", b",1", b"", 20_000)),
    (JSON, repeated(b"[[1", b",1", b'"', 1_500_000)),
    (JSON, repeated(b"", b"[", b"", 300_000)),
    (JSON, repeated(b"[[]", b",[]", b"]", 25_000_000)),
    (CSV, repeated(b"1", b"\n", b"x", 500_000)),
    (CSV, repeated(b'"', b"\n", b"", 700_000)),
    (LINES, repeated(b"[1]", b"\n", b"{", 200_000)),
    (NPY, lambda: npy((0, 10**18), "<f4", b"")),
    (NPZ, lambda: npz({"x.npy": bytes(300_000_000)})),
    (RECORDS, lambda: record(sized(2, sized(1, b"\0\0\0\0") + sized(2, b"\0") + sized(3, b"\x80\x80\x80\x20")))),
    ("text/none", lambda: b"x"),
]


@dataclass(slots=True)
class Seen:
    """The counts of all clients, and the latencies of /ping in seconds."""

    right: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    pings_s: list[float] = field(default_factory=list)


def soak(work: Path, _rounds: int, seconds: float) -> None:
    """Print the figures. Raises Unmeasurable where one of them is not as wanted, the latency of /ping excepted."""
    folders = {"rows": work / "rows", "extra": work / "extra", "script": work / "script"}
    for name in ("rows", "extra"):
        sample_models.variable_width(folders[name] / "model.onnx")
    (folders["script"] / "code").mkdir(parents=True)
    (folders["script"] / "code" / "inference.py").write_text(SCRIPT, encoding="utf-8")
    port, begun = free_port(), time.monotonic()
    flags = ["--multi-model", "--admin", "--port", str(port), "--script-workers", "1", "--inline-below-us", "0"]
    with served(["serve.py", *flags], port, work / "soak.log", "0,1") as process:
        for name in ("rows", "script"):
            load = json.dumps({"model_name": name, "url": str(folders[name])}).encode()
            call(port, "POST", "/models", load)
        bombs = [(content_type, body()) for content_type, body in HOSTILE]
        spent: list[Seen] = []
        memory = []
        for share in (WARM_SHARE, 1 - WARM_SHARE):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                spent.append(runner.run(_all(port, folders, bombs, share * seconds)))
            time.sleep(SETTLE_S)
            memory.append(resident_bytes(process.pid))
        peak = peak_bytes(process.pid)
        waited = waited_s(process.pid) / (time.monotonic() - begun)
        scrape = call(port, "GET", "/metrics").decode().splitlines()
    print(f"soak: the event loop of the server waited {waited:.0%} of the time for a core; {_lag(scrape)}")
    _report(spent, memory, peak, [line for line in scrape if "slipway_received" in line], seconds)


def _lag(scrape: list[str]) -> str:
    """The lag of the server's event loop, from its own histogram."""
    buckets = [
        line.partition('le="')[2].split('"} ') for line in scrape if line.startswith("slipway_loop_lag_seconds_bucket")
    ]
    counts = [(float(bound), float(count)) for bound, count in buckets]
    within = next(bound for bound, count in counts if count >= 0.99 * counts[-1][1])
    return f"p99 of its lag is at most {within * 1e3:g} ms"


def _report(spent: list[Seen], memory: list[int], peak: int, held: list[str], seconds: float) -> None:
    right, refused, done = (
        sum((one.right for one in spent), Counter[str]()),
        sum((one.refused for one in spent), Counter[str]()),
        sum((one.done for one in spent), Counter[str]()),
    )
    wrong, lost = ([text for one in spent for text in getattr(one, what)] for what in ("wrong", "lost"))
    unloaded = sum(count for text, count in refused.items() if "unloaded" in text)
    pings = np.array([one for seen in spent for one in seen.pings_s])
    print(f"soak: {right.total():,} right answers: {dict(right)}; refused: {dict(refused)}; beside them: {dict(done)}")
    print(f"soak: {len(wrong)} wrong, {len(lost)} lost, {unloaded} x 503 unloaded (wanted: 0, 0, 0)")
    print(
        f"soak: memory {memory[0] / 1e6:.1f} MB after {WARM_SHARE:.0%} of the time, {memory[1] / 1e6:.1f} at the end, "
        f"{memory[1] / memory[0]:.1%} (wanted: at most {GROWTH:.0%}); peak {peak / 1e6:.0f} MB"
    )
    print(
        f"soak: /ping p50 {np.quantile(pings, 0.5) * 1e3:.1f} ms, p99 {np.quantile(pings, 0.99) * 1e3:.1f} ms, slowest "
        f"{pings.max() * 1e3:.0f} ms (wanted: p99 {PING_P99_S * 1e3:g} ms on an idle machine)"
    )
    print("soak: afterwards " + ", ".join(held for held in held if not held.startswith("#")))
    faults = [*wrong[:3], *lost[:3]]
    grown = seconds >= LEAST_S and memory[1] > GROWTH * memory[0]
    if faults or unloaded or grown:
        raise Unmeasurable(f"the soak failed: {faults}")


async def _all(port: int, folders: dict[str, Path], bombs: list[tuple[str, bytes]], seconds: float) -> Seen:
    seen = Seen()
    until = time.monotonic() + seconds
    await asyncio.gather(
        *(_check(port, seen, until, random.Random(number)) for number in range(CLIENTS)),
        _ping(port, seen, until),
        _attack(port, bombs, seen, until),
        _leave(port, seen, until),
        _swap(port, folders["rows"], seen, until),
        _come_and_go(port, folders["extra"], seen, until),
    )
    return seen


async def _check(port: int, seen: Seen, until: float, chance: random.Random) -> None:
    """Send rows in all formats on one connection, and compare every answer."""
    async with _connection(port) as ask:
        while time.monotonic() < until:
            rows = [[float(chance.randrange(1_000)) for _ in range(4)] for _ in range(chance.choice((1, 2, 40)))]
            kind = chance.choice([*WRITERS, "script"])
            model = "script" if kind == "script" else "rows"
            content_type, write = WRITERS["json" if kind == "script" else kind]
            try:
                status, body = await ask("POST", f"/models/{model}/invoke", write(rows), content_type)
            except (OSError, EOFError, ValueError) as error:
                seen.lost.append(f"{kind}: {error!r}")
                return
            if status != 200:
                seen.refused[_code(body)] += 1
            elif _numbers(body) != [[3 * value for value in row] for row in rows]:
                seen.wrong.append(f"{kind}: {body[:200]!r}")
            else:
                seen.right[kind] += 1


async def _ping(port: int, seen: Seen, until: float) -> None:
    async with _connection(port) as ask:
        while time.monotonic() < until:
            sent = time.perf_counter()
            status, _ = await ask("GET", "/ping")
            seen.pings_s.append(time.perf_counter() - sent)
            if status != 200:
                seen.lost.append(f"/ping: {status}")
            await asyncio.sleep(PING_S)


async def _attack(port: int, bombs: list[tuple[str, bytes]], seen: Seen, until: float) -> None:
    for content_type, body in itertools.cycle(bombs):
        if time.monotonic() > until:
            return
        async with _connection(port) as ask:
            status, answer = await ask("POST", "/models/rows/invoke", body, content_type)
        if 400 <= status < 500:
            seen.done["hostile"] += 1
        else:
            seen.wrong.append(f"a hostile body: {status} {answer[:100]!r}")
        await asyncio.sleep(0.05)


async def _leave(port: int, seen: Seen, until: float) -> None:
    """Send a part of a request, or all of it, and leave."""
    whole = _wire("POST", "/models/rows/invoke", json.dumps([[1.0] * 4] * 50).encode(), JSON)
    for number in itertools.count():
        if time.monotonic() > until:
            return
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(whole[: (40, len(whole) - 20, len(whole))[number % 3]])
        await asyncio.sleep(0.002)
        writer.transport.abort()
        seen.done["disconnects"] += 1
        await asyncio.sleep(0.01)


async def _swap(port: int, folder: Path, seen: Seen, until: float) -> None:
    for version in itertools.cycle(("2", "3")):
        await asyncio.sleep(SWAP_S)
        if time.monotonic() > until:
            return
        order = {
            "path": str(folder),
            "name": "rows",
            "version": version,
            "activate": True,
            "retire": True,
            "reload": True,
        }
        async with _connection(port) as ask:
            status, body = await ask("POST", "/admin/models", json.dumps(order).encode(), JSON)
        if status == 200:
            seen.done["swaps"] += 1
        else:
            seen.wrong.append(f"a swap: {status} {body[:200]!r}")


async def _come_and_go(port: int, folder: Path, seen: Seen, until: float) -> None:
    for number in itertools.count():
        await asyncio.sleep(LOAD_S)
        if time.monotonic() > until:
            return
        name = f"extra{number}"
        load = json.dumps({"model_name": name, "url": str(folder)}).encode()
        async with _connection(port) as ask:
            ends = [
                (await ask("POST", "/models", load, JSON))[0],
                (await ask("POST", f"/models/{name}/invoke", b"[[1.0]]", JSON))[0],
                (await ask("DELETE", f"/models/{name}"))[0],
            ]
        if ends == [200, 200, 200]:
            seen.done["loads"] += 1
        else:
            seen.wrong.append(f"a load: {ends}")


Ask = Callable[..., Awaitable[tuple[int, bytes]]]


@contextlib.asynccontextmanager
async def _connection(port: int) -> Any:
    """A function that sends a request on one connection and returns status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def ask(method: str, path: str, body: bytes = b"", content_type: str = "") -> tuple[int, bytes]:
        writer.write(_wire(method, path, body, content_type))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head[9:12]), await reader.readexactly(length)

    try:
        yield ask
    finally:
        writer.transport.abort()


def _wire(method: str, path: str, body: bytes, content_type: str) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    return (head + (f"Content-Type: {content_type}\r\n" if content_type else "") + "\r\n").encode() + body


def _code(body: bytes) -> str:
    """The code of an error, with its text if it says that a model is not there."""
    document = json.loads(body)
    return str(document["error"] if document["code"] == "not_ready" else document["code"])


def _numbers(body: bytes) -> Any:
    document = json.loads(body)
    if isinstance(document, dict):
        document = document.get("predictions", document.get("outputs", document))
    if isinstance(document, list) and document and isinstance(document[0], dict) and "data" in document[0]:
        return np.array(document[0]["data"]).reshape(document[0]["shape"]).tolist()
    return document


def _npy(rows: list[list[float]]) -> bytes:
    array = np.array(rows, np.float32)
    return npy(array.shape, "<f4", array.tobytes())


def _npz(rows: list[list[float]]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.array(rows, np.float32))
    return file.getvalue()


def _records(rows: list[list[float]]) -> bytes:
    return b"".join(record(sized(2, sized(1, struct.pack(f"<{len(row)}f", *row)))) for row in rows)


def _open_inference(rows: list[list[float]]) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": rows}
    return json.dumps({"inputs": [tensor]}).encode()


WRITERS: dict[str, tuple[str, Callable[[list[list[float]]], bytes]]] = {
    "json": (JSON, lambda rows: json.dumps({"instances": rows}).encode()),
    "open inference": (JSON, _open_inference),
    "csv": (CSV, lambda rows: "".join(",".join(map(str, row)) + "\n" for row in rows).encode()),
    "json lines": (LINES, lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode()),
    "npy": (NPY, _npy),
    "npz": (NPZ, _npz),
    "recordio": (RECORDS, _records),
}
