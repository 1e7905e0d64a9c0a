"""Compressed bodies: what is expanded, and that the size after expansion is bounded."""

from __future__ import annotations

import asyncio
import gzip
import random
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.content_encoding import expand, is_compressed
from server.errors import BodyTooLarge, MalformedInput, UnsupportedMedia
from server.observe.metrics import Metrics
from server.protocols import Handler, Responder
from server.protocols.compression import Expander
from server.request import Head, InferRequest
from tests.fakes import FakeResponder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BODY = b'{"instances": [[1.5, 2.5]]}'


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(BODY, mtime=0)),
        (b" X-Gzip ", gzip.compress(BODY, mtime=0)),
        (b"gzip", gzip.compress(BODY[:5], mtime=0) + gzip.compress(BODY[5:], mtime=0)),
        (b"zstd", zstd.compress(BODY)),
        (b"ZSTD", zstd.compress(BODY[:5]) + zstd.compress(b"") + zstd.compress(BODY[5:])),
        (b"deflate", zlib.compress(BODY)),
        (b"Deflate", raw_deflate(BODY)),
    ],
)
def test_the_forms_that_clients_send_are_expanded(encoding: bytes, body: bytes) -> None:
    assert is_compressed(encoding)
    assert expand(body, encoding, 1_000) == BODY


@pytest.mark.parametrize("encoding", [None, b"", b" identity ", b"IDENTITY"])
def test_a_plain_body_is_not_compressed(encoding: bytes | None) -> None:
    assert not is_compressed(encoding)


@pytest.mark.parametrize("encoding", [b"br", b"gzip, gzip", b"x" * 500, b"\xff"])
def test_any_other_encoding_is_refused(encoding: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="send gzip, deflate or zstd, or the plain body"):
        expand(BODY, encoding, 1_000)


@pytest.mark.parametrize("wrap", [gzip.compress, zlib.compress, raw_deflate, zstd.compress])
def test_the_limit_is_that_of_a_body_and_holds_before_it_is_expanded(wrap: object) -> None:
    encoding = {gzip.compress: b"gzip", zstd.compress: b"zstd"}.get(wrap, b"deflate")  # type: ignore[call-overload]
    assert expand(wrap(bytes(1_000)), encoding, 1_000) == bytes(1_000)  # type: ignore[operator]
    with pytest.raises(BodyTooLarge):
        expand(wrap(bytes(1_001)), encoding, 1_000)  # type: ignore[operator]
    with pytest.raises(BodyTooLarge):
        expand(wrap(bytes(100_000_000)), encoding, 1_000)  # type: ignore[operator]


def test_many_members_share_the_limit() -> None:
    for encoding, member in ((b"gzip", gzip.compress(bytes(400))), (b"zstd", zstd.compress(bytes(400)))):
        with pytest.raises(BodyTooLarge):
            expand(member * 3, encoding, 1_000)


def test_a_window_that_would_take_much_memory_is_refused() -> None:
    parameter = zstd.CompressionParameter
    body = random.Random(0).randbytes(1 << 24)
    wide = zstd.compress(body, options={parameter.window_log: 27, parameter.content_size_flag: 0})
    with pytest.raises(MalformedInput, match="zstd"):
        expand(wide[: 1 << 16], b"zstd", 1 << 30)


@pytest.mark.parametrize(
    "body", [BODY, gzip.compress(BODY, mtime=0)[:-3], gzip.compress(BODY, mtime=0) + b"tail", b"\x1f\x8b"]
)
def test_a_body_that_is_no_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedInput):
        expand(body, b"gzip", 1_000)


@given(body=st.binary(max_size=300), place=st.integers(0, 60), piece=st.binary(max_size=3))
def test_damaged_bodies_are_expanded_or_our_error(body: bytes, place: int, piece: bytes) -> None:
    wholes = ((b"gzip", gzip.compress(body)), (b"deflate", zlib.compress(body)), (b"zstd", zstd.compress(body)))
    for encoding, whole in wholes:
        assert expand(whole, encoding, 300) == body
        damaged = whole[:place] + piece + whole[place + 1 :]
        try:
            assert len(expand(damaged, encoding, 300)) <= 300
        except (MalformedInput, BodyTooLarge):
            continue


class FakeAccount:
    """Received bytes, and whether more may come."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self.most_bytes = 1 << 20

    def move(self, change_bytes: int) -> None:
        self.held_bytes += change_bytes

    def full(self, more_bytes: int) -> bool:
        return self.held_bytes + more_bytes > self.most_bytes


async def pass_on(account: FakeAccount, handler: Handler, body: bytes) -> FakeResponder:
    """Expand a body, and wait until it is handled or refused."""
    over = asyncio.Event()
    head = Head(b"POST", b"/", [(b"content-encoding", b"gzip")])

    def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
        asyncio.get_running_loop().call_soon(over.set)
        return handler(head, body, responder)

    responder = FakeResponder(sent=lambda _status, _body: over.set())
    Expander(1 << 20, Metrics(lambda: True, "1"), account).pass_on(
        handle, head, gzip.compress(body), b"gzip", responder
    )
    await asyncio.wait_for(over.wait(), 30)
    return responder


async def test_an_expanded_body_is_held_until_its_request_has_ended() -> None:
    account = FakeAccount()
    ended: list[InferRequest] = []
    request = InferRequest((), 1, ended.append)
    await pass_on(account, lambda _head, _body, _responder: request, bytes(5_000))
    assert account.held_bytes == 5_000
    request.end()
    assert (account.held_bytes, ended) == (0, [request])


async def test_a_body_that_the_process_may_not_hold_is_refused() -> None:
    account = FakeAccount()
    account.most_bytes = 4_999
    handled: list[bytes] = []
    responder = await pass_on(account, lambda _head, body, _responder: handled.append(body), bytes(5_000))
    assert ([status for status, *_ in responder.responses], handled) == ([503], [])
    assert account.held_bytes == 0
