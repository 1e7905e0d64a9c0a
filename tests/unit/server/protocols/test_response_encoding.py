"""Compressed responses: the encoding by weight, and bodies that clients can read again."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.protocols.response_encoding import ENCODERS, accepted, compressed, encoding_for
from server.request import Head

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

READERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.decompress,
    b"deflate": zlib.decompress,
    b"zstd": zstd.decompress,
}


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (b"", b""),
        (b"gzip", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"deflate", b"deflate"),
        (b"gzip, deflate", b"gzip"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"br", b""),
        (b"*", b"gzip"),
        (b"*;q=0", b""),
        (b"*;q=0.5, gzip;q=0, deflate;q=0.1", b"deflate"),
        (b"gzip;q=0", b""),
        (b"gzip;q=0.2, deflate;q=0.8", b"deflate"),
        (b"gzip ; q=0.2 , deflate ; q = 0.1", b"gzip"),
        (b"identity", b""),
        (b"identity;q=1, gzip;q=0.5", b""),
        (b"identity;q=0.5, gzip", b"gzip"),
        (b"gzip;q=2", b""),
        (b"gzip;q=x", b""),
        (b"gzip;q=nan", b""),
        (b";;,,=,q=1", b""),
        (b"\xff\xfe", b""),
    ],
)
def test_the_highest_weight_is_taken(header: bytes, encoding: bytes) -> None:
    assert accepted(header) == encoding


@given(st.text(st.sampled_from("gzipdeflat*;q=0.1, x\t"), max_size=60))
def test_any_header_is_read(header: str) -> None:
    assert accepted(header.encode()) in {b"", *ENCODERS}


@pytest.mark.parametrize("encoding", list(ENCODERS))
def test_a_body_can_be_read_again(encoding: bytes) -> None:
    body = b'{"data":[1.5,1.5,1.5]}' * 1_000
    small, kind, headers = compressed((body, b"application/json", [(b"a", b"b")]), encoding)
    assert READERS[encoding](small) == body
    assert (kind, headers) == (
        b"application/json",
        [(b"a", b"b"), (b"vary", b"accept-encoding"), (b"content-encoding", encoding)],
    )


@pytest.mark.parametrize("encoding", list(ENCODERS))
def test_a_body_that_would_grow_is_left_as_it_is(encoding: bytes) -> None:
    body, _, headers = compressed((b"x", b"application/json", []), encoding)
    assert (body, headers) == (b"x", [(b"vary", b"accept-encoding")])


def test_only_the_routes_under_v2_compress_and_several_fields_are_one_list() -> None:
    fields = [(b"accept-encoding", b"br"), (b"accept-encoding", b"gzip")]
    assert encoding_for(Head(b"POST", b"/v2/models/m/infer", fields)) == b"gzip"
    assert encoding_for(Head(b"POST", b"/invocations", fields)) == b""
