"""Compressed bodies: what is expanded, and that the size after expansion is bounded."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import BodyTooLarge, MalformedInput, UnsupportedMedia
from server.protocols.compression import expand, is_compressed

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


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"x" * 500, b"\xff"])
def test_any_other_encoding_is_refused(encoding: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="send gzip, deflate, or the plain body"):
        expand(BODY, encoding, 1_000)


@pytest.mark.parametrize("wrap", [gzip.compress, zlib.compress, raw_deflate])
def test_the_limit_is_that_of_a_body_and_holds_before_it_is_expanded(wrap: object) -> None:
    encoding = b"gzip" if wrap is gzip.compress else b"deflate"
    assert expand(wrap(bytes(1_000)), encoding, 1_000) == bytes(1_000)  # type: ignore[operator]
    with pytest.raises(BodyTooLarge):
        expand(wrap(bytes(1_001)), encoding, 1_000)  # type: ignore[operator]
    with pytest.raises(BodyTooLarge):
        expand(wrap(bytes(100_000_000)), encoding, 1_000)  # type: ignore[operator]


def test_many_members_share_the_limit() -> None:
    with pytest.raises(BodyTooLarge):
        expand(gzip.compress(bytes(400)) * 3, b"gzip", 1_000)


@pytest.mark.parametrize(
    "body", [BODY, gzip.compress(BODY, mtime=0)[:-3], gzip.compress(BODY, mtime=0) + b"tail", b"\x1f\x8b"]
)
def test_a_body_that_is_no_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedInput):
        expand(body, b"gzip", 1_000)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(body=st.binary(max_size=300), place=st.integers(0, 60), piece=st.binary(max_size=3))
def test_damaged_bodies_are_expanded_or_our_error(body: bytes, place: int, piece: bytes) -> None:
    for encoding, whole in ((b"gzip", gzip.compress(body)), (b"deflate", zlib.compress(body))):
        assert expand(whole, encoding, 300) == body
        damaged = whole[:place] + piece + whole[place + 1 :]
        try:
            assert len(expand(damaged, encoding, 300)) <= 300
        except (MalformedInput, BodyTooLarge):
            continue
