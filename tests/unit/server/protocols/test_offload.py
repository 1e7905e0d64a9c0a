"""Large bodies: read and written on another thread, while the event loop goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from server.errors import MalformedInput
from server.observe.metrics import ModelMetrics
from server.protocols.inference import infer
from server.protocols.offload import LARGE_BYTES
from server.protocols.sagemaker.row_stream import stream_rows
from server.request import Head, InferRequest, Payload
from server.tensors import ModelSpec
from tests.fakes import FakeResponder

HEAD = Head(b"POST", b"/invocations", [])
LARGE, SMALL = bytes(LARGE_BYTES + 1), b"1"
PATIENCE_S = 30


class Codec:
    """Blocks where it is told to, until the event loop has done something else."""

    interpreted = True

    def __init__(self, blocks: str) -> None:
        self.blocks = blocks
        self.loop_went_on = threading.Event()
        self.error: Exception | None = None
        self.late_error: Exception | None = None

    def expanded_bytes(self, body: bytes, _: Any) -> int:
        return len(body)

    def decode(self, *_: Any) -> Payload:
        if self.blocks == "decode":
            assert self.loop_went_on.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return Payload((np.zeros((1, 1), np.float32),), 1)

    def encode(self, outputs: Any, *_: Any) -> tuple[bytes, bytes, list[Any]]:
        if self.blocks == "encode":
            assert self.loop_went_on.wait(PATIENCE_S)
        if self.late_error is not None:
            raise self.late_error
        return b"%d" % outputs[0].size, b"text/plain", []


class Model:
    """Answers at once with as many values as it is told."""

    def __init__(self, values: int = 1) -> None:
        self.values = values
        self.metrics = ModelMetrics("m", "1")
        self.deadline_ns, self.cache, self.watch, self.trace, self.capture = 0, None, None, None, None
        self.spec, self.max_rows, self.begun = ModelSpec((), ()), 10, 0
        self.name, self.version = "m", "1"
        self.instances, self.max_batch_size = 1, 8
        self.submitted = 0
        self.scheduler = SimpleNamespace(refusing=False)

    def submit(self, request: InferRequest) -> None:
        self.submitted += 1
        request.outputs = [np.zeros((1, self.values), np.float32)]
        request.done(request)


def asked(
    codec: Codec, model: Model, body: bytes, while_waiting: Callable[[InferRequest], None] = lambda _: None
) -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        kit: Any = codec

        responder = FakeResponder(sent=lambda status, body: answered.set_result((status, body)))
        request = infer(model, HEAD, body, responder, kit, kit)  # type: ignore[arg-type]
        if request is not None:
            while_waiting(request)
        asyncio.get_running_loop().call_soon(codec.loop_went_on.set)
        if codec.blocks == "gone":
            while not model.metrics.answers["client_gone"]:  # noqa: ASYNC110 - nobody else is told
                await asyncio.sleep(0.001)
            return 0, b""
        return await asyncio.wait_for(answered, PATIENCE_S)

    return asyncio.run(ask())


@pytest.mark.parametrize(("blocks", "body", "values"), [("decode", LARGE, 1), ("encode", SMALL, LARGE_BYTES)])
def test_the_loop_goes_on_while_a_large_body_is_read_or_written(blocks: str, body: bytes, values: int) -> None:
    model = Model(values)
    assert asked(Codec(blocks), model, body) == (200, b"%d" % values)
    assert model.metrics.answers["ok"] == 1


@pytest.mark.parametrize(("error", "status"), [(MalformedInput("no"), 400), (ValueError("a secret"), 500)])
@pytest.mark.parametrize(("body", "values"), [(LARGE, 1), (SMALL, LARGE_BYTES)])
def test_what_fails_there_is_an_ordinary_failure(error: Exception, status: int, body: bytes, values: int) -> None:
    codec, model = Codec(""), Model(values)
    if body is LARGE:
        codec.error = error
    else:
        codec.late_error = error
    got, text = asked(codec, model, body)
    assert got == status
    assert b"secret" not in text


def test_nothing_is_run_for_who_has_left_in_between() -> None:
    model = Model()
    asked(Codec("gone"), model, LARGE, lambda request: setattr(request, "abandoned", True))
    assert model.submitted == 0
    assert model.metrics.answers["client_gone"] == 1


def test_rows_of_a_large_body_are_streamed_too() -> None:
    codec, model = Codec("decode"), Model()

    async def ask() -> tuple[int, bytes]:
        answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        kit: Any = codec

        responder = FakeResponder(sent=lambda status, body: answered.set_result((status, body)))
        stream_rows(model, HEAD, LARGE, responder, kit, kit, {})  # type: ignore[arg-type]
        asyncio.get_running_loop().call_soon(codec.loop_went_on.set)
        return await asyncio.wait_for(answered, PATIENCE_S)

    assert asyncio.run(ask()) == (200, b"1")
