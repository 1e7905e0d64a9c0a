"""A small model server on FastAPI with one planted fault.

    python -m tests.benchmarks.bench.plant_app FAULT [VALUE]

prints its port, and serves ``POST /predict`` on 127.0.0.1 until its standard input closes. The body is a JSON object
with ``values`` (a list of numbers); the answer has ``sum`` and, for the fault ``reply``, that many numbers.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request

BASE_S = 0.003
"""What the model computes for every request, without a fault."""


def spin(seconds: float) -> None:
    """Use a core for this much of its CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class Batcher:
    """Collects requests for ``wait_s`` or until ``largest`` have come, then answers all of them."""

    def __init__(self, wait_s: float, largest: int = 32) -> None:
        self._wait_s, self._largest = wait_s, largest
        self._waiting: list[asyncio.Future[None]] = []

    async def join(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(self._wait_s, self._flush)
        elif len(self._waiting) >= self._largest:
            self._flush()
        await future

    def _flush(self) -> None:
        spin(BASE_S)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.set_result(None)


def make(fault: str, value: float) -> FastAPI:
    """The app with its fault; ``value`` is in seconds, in bytes or a count, by the fault."""
    lock, batcher = threading.Lock(), Batcher(value)
    pool = ThreadPoolExecutor(int(value) if fault == "threads" else 1)
    weights = np.ones(int(value) // 8) if fault == "weights" else np.ones(0)
    state = {"cold": fault == "cold"}

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(pauses(value)) if fault == "pauses" else None
        yield
        if task is not None:
            task.cancel()

    app = FastAPI(lifespan=lifespan)

    def work(values: list[float]) -> dict[str, Any]:
        if state["cold"]:
            state["cold"] = False
            time.sleep(value)
        if fault in ("lock", "lock_spin"):
            with lock:
                time.sleep(value) if fault == "lock" else spin(value)
        elif fault == "sleep":
            time.sleep(value)
        elif fault == "spin":
            spin(value)
        elif fault == "length":
            spin(len(values) * value)
        elif fault == "weights":
            weights.sum()
        elif fault == "threads":
            list(pool.map(burn, [0.02] * int(value)))
        if fault not in ("spin", "weights", "threads"):
            spin(BASE_S)
        found: dict[str, Any] = {"sum": float(np.sum(values))}
        if fault == "reply":
            found["values"] = [0.123456789 + at for at in range(int(value))]
        return found

    if fault in ("block", "timer"):

        @app.post("/predict")
        async def predict_on_loop(request: Request) -> dict[str, Any]:
            values = (await request.json())["values"]
            if fault == "timer":
                await batcher.join()
                return {"sum": float(np.sum(values))}
            time.sleep(value)  # noqa: ASYNC251 - the planted fault
            return {"sum": float(np.sum(values))}

    else:

        @app.post("/predict")
        def predict(body: dict[str, Any]) -> dict[str, Any]:
            return work(body["values"])

    return app


def burn(seconds: float) -> None:
    """Work without the interpreter's lock, so that threads compute at once."""
    matrix = np.ones((200, 200))
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        np.sort(matrix, axis=None)


async def pauses(every_s: float) -> None:
    """Stop the event loop, and with it every request, for a quarter of a second from time to time."""
    while True:
        await asyncio.sleep(every_s)
        time.sleep(0.25)  # noqa: ASYNC251 - the planted fault


def main() -> None:
    fault, value = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    keep_alive = 0 if fault == "close" else 60
    headers = [("connection", "close")] if fault == "close" else []
    config = uvicorn.Config(
        make(fault, value), host="127.0.0.1", port=0, log_level="error", timeout_keep_alive=keep_alive, headers=headers
    )
    server = uvicorn.Server(config)

    def end_with_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_input, daemon=True).start()
    socket = config.bind_socket()
    print(socket.getsockname()[1], flush=True)
    server.run(sockets=[socket])


if __name__ == "__main__":
    main()
