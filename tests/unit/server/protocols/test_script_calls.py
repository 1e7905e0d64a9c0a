"""Requests to scripts, between the protocol and the scheduler: nothing of one is left when it has ended."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import Overloaded
from server.observe.metrics import ModelMetrics
from server.protocols.sagemaker.script_calls import ScriptCalls
from server.request import Head, InferRequest
from server.scripts.call import ScriptResponse, as_array
from tests.fakes import FakeResponder


def left() -> int:
    gc.collect()
    return sum(type(one) is InferRequest for one in gc.get_objects())


def model(submit: Any) -> Any:
    return SimpleNamespace(submit=submit, metrics=ModelMetrics("m", "1"), deadline_ns=0, watch=None, trace=None)


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
