"""The code of a user behind FastAPI, in one of the ways in which people call it.

    python -m tests.benchmarks.bench.plants.async_app CODE

prints its port, and serves ``POST /predict`` on 127.0.0.1 until its standard input closes. ``CODE`` is JSON for
``users.make``, with one entry more, ``how``: ``thread`` (a plain function, the default), ``validated`` (a model of
pydantic with a list of floats), ``one`` (a semaphore of one around a wait of ``wait_s``), or ``tick`` (what came in the
last ``every_s`` is answered together, at even times).
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from . import users
from .fastapi_app import serve


class Row(BaseModel):
    """A request whose every number is checked."""

    values: list[float]


class Ticks:
    """Answers at even times what has come since the last one."""

    def __init__(self, model: Any, every_s: float) -> None:
        self._model, self._every_s = model, every_s
        self._waiting: list[tuple[dict[str, Any], asyncio.Future[Any]]] = []

    async def answer(self, body: dict[str, Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, future))
        return await future

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            waiting, self._waiting = self._waiting, []
            for body, future in waiting:
                future.set_result(self._model.predict(body))


def threaded(app: FastAPI, model: Any) -> None:
    @app.post("/predict")
    def predict(body: dict[str, Any]) -> Any:
        return model.predict(body)


def validated(app: FastAPI, model: Any) -> None:
    @app.post("/predict")
    def predict(body: Row) -> Any:
        return model.predict({"values": body.values})


def one_at_a_time(app: FastAPI, model: Any, wait_s: float) -> None:
    only = asyncio.Semaphore(1)

    @app.post("/predict")
    async def predict(body: dict[str, Any]) -> Any:
        async with only:
            await asyncio.sleep(wait_s)
        return model.predict(body)


def make(code: dict[str, Any], folder: Path) -> FastAPI:
    """The app for one code. ``folder``: for files of the model."""
    how, wait_s, every_s = code.pop("how", "thread"), code.pop("wait_s", 0.0), code.pop("every_s", 0.0)
    model = users.make(code, folder)
    ticks = Ticks(model, every_s)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(ticks.run()) if how == "tick" else None
        yield
        if task is not None:
            task.cancel()

    app = FastAPI(lifespan=lifespan)
    if how == "tick":
        app.post("/predict")(_of_ticks(ticks))
    elif how == "one":
        one_at_a_time(app, model, wait_s)
    else:
        {"thread": threaded, "validated": validated}[how](app, model)
    return app


def _of_ticks(ticks: Ticks) -> Any:
    async def predict(body: dict[str, Any]) -> Any:
        return await ticks.answer(body)

    return predict


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        serve(make(json.loads(sys.argv[1]), Path(place)))
