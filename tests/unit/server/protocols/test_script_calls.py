"""Requests to scripts, between the protocol and the scheduler: nothing of one is left when it has ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import Overloaded
from server.http.streams import ChunkedOutlet
from server.models import Models, ServedModel
from server.observe.metrics import Metrics, ModelMetrics
from server.protocols.responder import NO_HEADERS, Outlet, Source
from server.protocols.sagemaker.script_calls import ScriptCalls
from server.request import Head, Headers, InferRequest
from server.scripts.call import ScriptResponse, as_array
from server.settings.options import Settings
from tests.fakes import FakeResponder, FakeTransport
from tests.integration.server_process import eventually


def left() -> int:
    gc.collect()
    return sum(type(one) is InferRequest for one in gc.get_objects())


def model(submit: Any) -> Any:
    return SimpleNamespace(
        submit=submit, metrics=ModelMetrics("m", "1"), deadline_ns=0, watch=None, trace=None, capture=None
    )


@pytest.mark.parametrize("refused", [False, True])
def test_nothing_of_a_request_is_left_when_it_has_ended(refused: bool) -> None:
    responder = FakeResponder()

    def submit(request: InferRequest) -> None:
        if refused:
            raise Overloaded("full", 1)
        request.outputs = [as_array([ScriptResponse(b"x", "text/plain")])]
        request.done(request)

    async def ask() -> None:
        head = Head(b"POST", b"/invocations", [(b"content-type", b"application/json")])
        for _ in range(10):
            ScriptCalls("", "application/json").invoke(model(submit), head, b"[1]", responder)

    before = left()
    asyncio.run(ask())
    assert left() == before
    assert [status for status, *_ in responder.responses] == [429 if refused else 200] * 10


SCRIPT = """
import os, sys, time
from sagemaker_inference import errors

def model_fn(folder): return None

def input_fn(body, content_type):
    how = body[:8].decode().strip()
    if how == "input": raise ValueError("input")
    if how == "encode": raise errors.UnsupportedFormatError("this")
    return how

def predict_fn(how, model):
    if how == "predict":
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise RuntimeError("predict") from error
    if how == "exit": sys.exit(3)
    if how == "end": os._exit(3)
    while how == "hang": time.sleep(0.005)
    return how

def output_fn(how, accept):
    if how == "output": raise ValueError("output")
    if how == "type": return {object()}
    if how == "first": return chunks(0)
    if how == "later": return chunks(1)
    if how == "stream": return whole(3)
    return how

def whole(count):
    yield from ["x"] * count

def chunks(count):
    yield from ["x"] * count
    raise ValueError("chunk")
"""
ENDS = ("ok", "stream", "input", "encode", "predict", "exit", "output", "type", "first", "later", "hang")


class Answer:
    """A responder over a connection that is not there, which tells when its response is complete."""

    def __init__(self) -> None:
        self.complete = asyncio.Event()
        self.status = 0

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        self.status = status
        self.complete.set()

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> Outlet:
        def over(_size: int, broken: bool) -> None:
            self.status = 0 if broken else status
            self.complete.set()

        return ChunkedOutlet(FakeTransport(), SimpleNamespace(write_paused=False), source, over)


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Records of the log, which pytest keeps, have the frames of the errors."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize(("workers", "ends"), [(0, ENDS), (1, (*ENDS, "end"))])
def test_a_body_is_let_go_without_the_garbage_collector_however_its_request_ends(
    workers: int, ends: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(SCRIPT)
    settings = Settings(script_workers=workers, script_timeout_s=0.5)

    async def ask(script: ServedModel, how: str) -> int:
        body = how.ljust(8).encode() + bytes(100_000)
        before, answer = 0, Answer()

        def free() -> bool:
            return sys.getrefcount(body) <= before

        before = sys.getrefcount(body)
        head = Head(b"POST", b"/invocations", [(b"content-type", b"application/octet-stream")])
        ScriptCalls("", "application/json").invoke(script, head, body, answer)
        await asyncio.wait_for(answer.complete.wait(), 30)
        await asyncio.to_thread(eventually, free, f"the body is let go: {how}")  # by the thread of the run, too
        return answer.status

    async def go() -> dict[str, int]:
        models = Models(settings, Metrics(lambda: True, "1"))
        script = await models.load(tmp_path)
        try:
            return {how: await ask(script, how) for how in ends}
        finally:
            await models.close()

    gc.collect()
    gc.disable()
    try:
        found = asyncio.run(go())
    finally:
        gc.enable()
    assert [how for how, status in found.items() if status == 200] == ["ok", "stream"]
