"""Every codec against bodies that are almost right: a payload or a refusal, never a failure of the server."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.codecs import Codec
from server.codecs.media import CODECS
from server.codecs.open_inference import OpenInference
from server.errors import SlipwayError
from server.protocols.failure import status_of
from server.request import Head, Payload
from server.tensors import BY_NAME, ModelSpec, TensorSpec

SPECS = {
    f"{dtype}{list(shape)}": ModelSpec(
        (TensorSpec("x", BY_NAME[dtype], shape),), (TensorSpec("y", BY_NAME[dtype], shape),)
    )
    for dtype, shape in product(("FP32", "INT64", "BYTES", "BOOL"), ((-1, 2), (-1, -1), (-1,), (-1, -1, -1)))
}
DTYPES = ("FP32", "INT64", "BYTES", "BOOL")


def codecs() -> dict[str, Codec]:
    return {codec.media_types[0]: codec for codec in CODECS}


def refused_or_read(codec: Codec, body: bytes, spec: ModelSpec, parameters: dict[str, str] | None = None) -> None:
    """Decode; the only exceptions are refusals that are the client's fault."""
    refusal: SlipwayError | None = None
    try:
        codec.decode(body, Head(b"POST", b"/", []), parameters or {}, spec)
    except SlipwayError as error:
        refusal = error
    assert refusal is None or status_of(refusal) < 500


def a_body(codec: Codec, spec: ModelSpec) -> bytes:
    """A body that the codec itself wrote, or nothing where it cannot write such a tensor."""
    shape = tuple(2 if size == -1 else size for size in spec.inputs[0].shape)
    dtype = spec.inputs[0].dtype.numpy
    array = np.full(shape, "one" if dtype.kind == "O" else 1, dtype)
    try:
        return bytes(codec.encode([array], Payload((array,), shape[0]), spec, "m", "1")[0])
    except SlipwayError:
        return b""


@pytest.mark.parametrize("media_type", codecs())
@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(SPECS)),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 12), st.binary(max_size=12)), max_size=4),
)
def test_a_body_with_a_few_wrong_bytes_is_refused_or_read(
    media_type: str, name: str, edits: list[tuple[int, int, bytes]]
) -> None:
    codec, spec = codecs()[media_type], SPECS[name]
    body = a_body(codec, spec)
    for place, removed, put in edits:
        at = place % (len(body) + 1)
        body = body[:at] + put + body[at + removed :]
    refused_or_read(codec, body, spec)


def npy(shape: str, descr: str, values: bytes = b"") -> bytes:
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + values


SHAPES = ["(0, 4611686018427387904)", f"(0, {10**30})", "(9223372036854775807, 0)", f"({'0,' * 33})", f"({'1,' * 32})"]


@pytest.mark.parametrize(
    ("shape", "descr", "dtype"), list(product(SHAPES, ("<f4", "<U2", "|S3", "|b1", ">i8"), DTYPES))
)
def test_npy_shapes_that_no_array_can_have(shape: str, descr: str, dtype: str) -> None:
    codec = codecs()["application/x-npy"]
    for spec in SPECS.values():
        if spec.inputs[0].dtype.name == dtype:
            refused_or_read(codec, npy(shape, descr), spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_npy_strings_of_impossible_code_points_or_sizes(spec: ModelSpec) -> None:
    codec = codecs()["application/x-npy"]
    for values in (b"\xff" * 16, b"\x00\xd8\x00\x00" * 4, b"\x00\x00\x11\x00" * 4):
        refused_or_read(codec, npy("(1, 2)", "<U2", values), spec)
    for descr in ("<U999999999", "<U99999999999", "|S99999999999"):
        refused_or_read(codec, npy("(0, 2)", descr), spec)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    list(product(([0, 2**62], [2**62, 0], [0, 2**64 - 1], [2**62, 2**62], [0] * 70, [2**40]), DTYPES)),
)
def test_open_inference_shapes_that_no_array_can_have(shape: list[int], dtype: str) -> None:
    for spec in SPECS.values():
        if spec.inputs[0].dtype.name != dtype:
            continue
        text = f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{dtype}","data":[]}}]}}'.encode()
        refused_or_read(codecs()["application/json"], text, spec)
        blob = text.replace(b'"data":[]', b'"parameters":{"binary_data_size":0}')
        refused_or_read(OpenInference(), blob, spec, {"json-header-size": str(len(blob))})


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[1" + b"0" * 5_000 + b"]",
        b"[[1e400]]",
        b'{"instances":[["\\ud800"]]}',
        b'{"instances":[{"b64":1}]}',
    ],
    ids=["deep", "long number", "large number", "surrogate", "base64"],
)
@pytest.mark.parametrize("media_type", ["application/json", "application/jsonlines"])
def test_json_that_parsers_have_failed_on(media_type: str, body: bytes) -> None:
    for spec in SPECS.values():
        refused_or_read(codecs()[media_type], body, spec)
