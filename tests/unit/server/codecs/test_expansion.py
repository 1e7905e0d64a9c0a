"""Text is refused by the memory that reading it would take, before anything is made of it."""

from __future__ import annotations

import tracemalloc

import pytest

from server.codecs.csv import Csv
from server.codecs.csv_rows import blocks
from server.codecs.expansion import LEAST_BYTES, SMALL_BYTES, check_csv, check_json
from server.codecs.json import Json
from server.codecs.jsonlines import JsonLines
from server.errors import BodyTooLarge
from server.request import Head
from server.tensors import BY_NAME, ModelSpec, TensorSpec

SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, -1)),), (TensorSpec("y", BY_NAME["FP32"], (-1, -1)),))
HEAD = Head(b"POST", b"/invocations", [])


@pytest.mark.parametrize(
    ("codec", "piece"),
    [
        *((Json(), piece) for piece in (b"[],", b"{},", b"[[", b'"a",', b"[1],")),
        *((JsonLines(), piece) for piece in (b"[]\n", b"[],", b"{}\n")),
        *((Csv(), piece) for piece in (b"1,", b'"1"\n')),
    ],
    ids=lambda one: repr(one) if isinstance(one, bytes) else type(one).__name__,
)
def test_a_body_that_expands_too_far_is_refused_before_it_is_parsed(
    codec: Json | JsonLines | Csv, piece: bytes
) -> None:
    body = piece * (LEAST_BYTES // len(piece))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge, match="fewer values"):
            codec.decode(body, HEAD, {}, SPEC)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()


def test_what_clients_send_is_not_refused() -> None:
    check_json(b"[[" + b"0.123," * (LEAST_BYTES // 6) + b"1]]")
    for _, block in blocks("5.1,3.5,1.4,0.2\n" * (LEAST_BYTES // 16)):
        check_csv(block)
    check_json(b"[" * SMALL_BYTES)
