"""A small model server on FastAPI with planted faults.

    python -m tests.benchmarks.bench.plants.fastapi_app FAULTS

prints its port, and serves ``POST /predict`` on 127.0.0.1 until its standard input closes. The body is a JSON object
with ``values`` (a list of numbers), the answer has ``values`` too. Beside those of the model, the faults are ``block``
(a wait on the event loop), ``timer`` (a batch waits for so many seconds), ``close`` (connections are not kept) and
``pauses`` (the event loop stops for a quarter of a second after so many seconds).
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from .faulty_model import BASE_S, FaultyModel, parse, spin

LARGEST = 32


class Batcher:
    """Collects requests for ``wait_s`` or until ``LARGEST`` have come, then answers all of them."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._waiting: list[asyncio.Future[None]] = []

    async def join(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(self._wait_s, self._flush)
        elif len(self._waiting) >= LARGEST:
            self._flush()
        await future

    def _flush(self) -> None:
        spin(BASE_S)
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.set_result(None)


def make(faults: dict[str, float]) -> FastAPI:
    """The app with its faults."""
    model, batcher = FaultyModel(faults), Batcher(faults.get("timer", 0.0))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(pauses(faults["pauses"])) if "pauses" in faults else None
        yield
        if task is not None:
            task.cancel()

    app = FastAPI(lifespan=lifespan)

    if "block" in faults or "timer" in faults:

        @app.post("/predict")
        async def predict_on_loop(request: Request) -> dict[str, Any]:
            values = (await request.json())["values"]
            if "timer" in faults:
                await batcher.join()
            else:
                time.sleep(faults["block"])  # noqa: ASYNC251 - the planted fault
            return {"values": [sum(values)]}

    else:

        @app.post("/predict")
        def predict(body: dict[str, Any]) -> dict[str, Any]:
            return {"values": model.predict(body["values"])}

    return app


async def pauses(every_s: float) -> None:
    """Stop the event loop, and with it every request, from time to time."""
    while True:
        await asyncio.sleep(every_s)
        time.sleep(0.25)  # noqa: ASYNC251 - the planted fault


def serve(app: FastAPI, close: bool = False) -> None:
    """Print a free port of 127.0.0.1 and serve there until standard input closes. ``close``: keep no connections."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", timeout_keep_alive=0 if close else 60,
        headers=[("connection", "close")] if close else [],
    )  # fmt: skip
    server = uvicorn.Server(config)

    def end_with_input() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_input, daemon=True).start()
    socket = config.bind_socket()
    print(socket.getsockname()[1], flush=True)
    server.run(sockets=[socket])


if __name__ == "__main__":
    planted = parse(sys.argv[1])
    serve(make(planted), "close" in planted)
