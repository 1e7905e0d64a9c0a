"""Background work: every request gets a response, also for what nobody expected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from server.errors import MalformedInput
from server.protocols.background import Background
from server.request import Head
from tests.fakes import FakeResponder


async def done() -> None:
    """Work without an error."""


async def refused() -> None:
    raise MalformedInput("no")


async def broken() -> None:
    raise OSError(36, "File name too long", "/secret")


@pytest.mark.parametrize(
    ("work", "status", "code"), [(done, 200, None), (refused, 400, "malformed_input"), (broken, 500, "internal")]
)
def test_work_always_ends_in_a_response(work: Callable[[], Awaitable[None]], status: int, code: str | None) -> None:
    async def go() -> FakeResponder:
        sent = asyncio.Event()
        responder = FakeResponder(sent=lambda _status, _body: sent.set())
        Background().respond(Head(b"POST", b"/models", []), responder, work, b"{}")
        await sent.wait()
        return responder

    responder = asyncio.run(go())
    ((answered, _, body, _),) = responder.responses
    assert (answered, json.loads(body).get("code")) == (status, code)
    assert b"secret" not in body
