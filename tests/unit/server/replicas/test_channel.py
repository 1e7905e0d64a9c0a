"""The channel: calls that cross, errors that keep their kind, and the end of the other side."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.errors import NotReady, Overloaded, SlipwayError, UnknownModel
from server.replicas.channel import BY_CODE, Channel, ChannelClosed, Handler, decode_error, encode_error


@asynccontextmanager
async def pair(here: Handler, there: Handler) -> AsyncIterator[tuple[Channel, Channel]]:
    ends = socket.socketpair()
    channels = Channel(here), Channel(there)
    for channel, end in zip(channels, ends, strict=True):
        await channel.open(end)
    serving = [asyncio.ensure_future(channel.serve()) for channel in channels]
    yield channels
    for channel in channels:
        channel.close()
    for one in serving:
        one.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


async def echo(name: str, argument: Any) -> Any:
    if name == "fail":
        raise UnknownModel(f"no {argument}")
    if name == "break":
        raise RuntimeError("a path of the server")
    return {name: argument}


async def test_calls_cross_and_notices_need_no_reply() -> None:
    heard: list[Any] = []
    inner: list[Channel] = []

    async def there(name: str, argument: Any) -> Any:
        heard.append((name, argument))
        return await inner[0].call("back", argument) if name == "there" else None

    async with pair(echo, there) as (one, other):
        inner.append(other)
        one.tell("notice", [1])
        large = "x" * 300_000
        assert await one.call("there", large) == {"back": large}
    assert heard == [("notice", [1]), ("there", large)]


async def test_an_error_keeps_its_kind_and_others_tell_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with pair(echo, echo) as (one, _):
        with pytest.raises(UnknownModel, match="no m"):
            await one.call("fail", "m")
        with pytest.raises(SlipwayError, match="its log has the details"):
            await one.call("break")
    assert "a path of the server" in caplog.text


async def test_calls_end_when_the_other_side_ends() -> None:
    waiting = asyncio.Event()

    async def never(_name: str, _argument: Any) -> Any:
        waiting.set()
        await asyncio.Event().wait()

    async with pair(echo, never) as (one, other):
        call = asyncio.ensure_future(one.call("anything"))
        await waiting.wait()
        other.close()
        with pytest.raises(ChannelClosed):
            await call
        with pytest.raises(ChannelClosed):
            await one.call("again")
        one.tell("nothing happens")


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_every_error_of_the_server_crosses(code: str) -> None:
    kind = BY_CODE[code]
    error = kind("why", 7) if issubclass(kind, Overloaded) else kind("why")
    back = decode_error(encode_error(error))
    assert (type(back), str(back)) == (kind, "why")
    assert getattr(back, "retry_after_s", 7) == 7
    assert isinstance(decode_error(encode_error(NotReady("bad \ud800 text"))), NotReady)
