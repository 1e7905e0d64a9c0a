"""NumPy's files: never pickle, never more memory than the body earns, views where they can be."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest

from server.codecs.numpy import Npy, Npz
from server.errors import MalformedInput, UnprocessableInput
from server.request import Head, Payload
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

HEAD = Head(b"POST", b"/invocations", [])


def model(dtype: str, *shape: int) -> ModelSpec:
    tensor = TensorSpec("x", BY_NAME[dtype], shape)
    return ModelSpec((tensor,), (tensor,))


def saved(array: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def zipped(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def decode(body: bytes, spec: ModelSpec) -> Array:
    (array,) = Npy().decode(body, HEAD, {}, spec).arrays
    return array


def test_the_models_own_dtype_is_a_view_of_the_body() -> None:
    body = saved(np.ones((2, 3), np.float32))
    array = decode(body, model("FP32", -1, 3))
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))


@pytest.mark.parametrize("given", [">f4", "<f8", ">f8", "f2", "i8", "u1", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_order_memory_order_and_harmless_casts(given: str, order: Any) -> None:
    values = np.arange(6).reshape(2, 3).astype(given, order=order)
    array = decode(saved(values), model("FP32", -1, 3))
    assert array.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert array.flags.c_contiguous
    assert array.dtype == np.float32


@pytest.mark.parametrize(
    ("array", "dtype", "complaint"),
    [
        (np.array([[1.0]]), "INT64", "dtype float64, expected int64"),
        (np.array([[True]]), "FP32", "dtype bool, expected float32"),
        (np.array([[1]]), "BOOL", "dtype int64, expected bool"),
        (np.array([[1]]), "BYTES", "dtype int64, expected strings"),
        (np.array([["1"]]), "FP32", "expected float32"),
        (np.array([[1], [300]]), "INT8", r"300 at \[1\]\[0\] is out of the range of int8"),
        (np.array([[-1]]), "UINT64", "out of the range of uint64"),
        (np.array([[2**64 - 1]], np.uint64), "INT64", "out of the range of int64"),
        (np.array([[1e39]]), "FP32", "out of the range of float32"),
        (np.array([[b"\xff"]]), "BYTES", "not text"),
        (np.array([[1j]]), "FP32", "are not read"),
    ],
)
def test_a_cast_that_would_lose_is_refused(array: Array, dtype: str, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        decode(saved(array), model(dtype, -1, 1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nan_is_unprocessable(dtype: str) -> None:
    with pytest.raises(UnprocessableInput, match=r'"x" is NaN at \[0\]\[1\]'):
        decode(saved(np.array([[1, np.nan]], dtype)), model("FP32", -1, 2))


def test_strings_come_as_fixed_width_text_or_utf8() -> None:
    assert decode(saved(np.array(["ü", "long"])), model("BYTES", -1)).tolist() == ["ü", "long"]
    assert decode(saved(np.array(["ü".encode()])), model("BYTES", -1)).tolist() == ["ü"]


def test_pickle_is_never_read() -> None:
    with pytest.raises(MalformedInput, match="pickle"):
        decode(saved(np.array([{}], object), allow_pickle=True), model("FP32", -1))


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800, 0xDFFF])
@pytest.mark.parametrize("order", ["<", ">"])
def test_text_with_numbers_that_are_not_characters_is_refused(code: int, order: str) -> None:
    codes = np.array([[0x61, code]], f"{order}u4")
    with pytest.raises(MalformedInput, match="not characters"):
        decode(saved(codes.view(f"{order}U2")[:, 0]), model("BYTES", -1))
    fine = np.array([[0x61, 0x10FFFF]], f"{order}u4").view(f"{order}U2")[:, 0]
    assert decode(saved(fine), model("BYTES", -1)).tolist() == ["a\U0010ffff"]


@pytest.mark.parametrize("shape", ["(0, 4611686018427387904)", "(0, 99999999999999999999)", "(1000000000000000, 0)"])
def test_sizes_that_no_array_can_have_are_refused_beside_a_zero(shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    with pytest.raises(MalformedInput, match="no array has"):
        decode(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header, model("FP32", -1, -1))


def test_one_row_may_lack_the_batch_axis() -> None:
    """numpy users send the row itself; an array that lacks more than that axis is refused."""
    assert decode(saved(np.array([1, 2], np.float32)), model("FP32", -1, 2)).tolist() == [[1, 2]]
    assert decode(saved(np.array(5, np.float32)), model("FP32", -1)).tolist() == [5]
    assert decode(saved(np.array([1, 2], np.float32)), model("FP32", 1, 2)).tolist() == [[1, 2]]
    for wrong in (np.zeros(3), np.float32(1)):
        with pytest.raises(MalformedInput):
            decode(saved(np.asarray(wrong)), model("FP32", -1, 2))
    with pytest.raises(MalformedInput):
        decode(saved(np.zeros(2, np.float32)), model("FP32", 3, 2))


def test_structured_arrays_are_refused() -> None:
    with pytest.raises(MalformedInput, match="only plain arrays"):
        decode(saved(np.zeros(2, [("a", "f4")])), model("FP32", -1))


@pytest.mark.parametrize("claim", [b"(9999999999999, 3)", b"(99999999999999999999999999, )", b"(2, 3, 4)", b"(2,)"])
def test_a_header_that_claims_other_sizes_allocates_nothing(claim: bytes) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': " + claim + b", }\n"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24)
    with pytest.raises(MalformedInput, match=r"announces \d+ bytes|no array has"):
        decode(body, model("FP32", -1, 3))


def test_headers_of_other_writers_and_versions() -> None:
    header = b'{"shape":(1,2),"fortran_order":False,"descr":"<f4"}'
    body = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(8)
    array = decode(body, model("FP32", -1, 2))
    assert array.tolist() == [[0.0, 0.0]]
    assert array.flags.aligned


def test_npz_of_one_input_needs_no_name() -> None:
    body = zipped(arr_0=np.ones((1, 2), np.float32))
    assert Npz().decode(body, HEAD, {}, model("FP32", -1, 2)).arrays[0].tolist() == [[1.0, 1.0]]


def test_npz_must_not_expand_beyond_the_limit() -> None:
    out = io.BytesIO()
    np.savez_compressed(out, x=np.zeros((1, 100_000), np.float32))
    assert len(out.getvalue()) < 2_000
    with pytest.raises(MalformedInput, match="expands beyond 1000 bytes"):
        Npz(max_expanded_bytes=1000).decode(out.getvalue(), HEAD, {}, model("FP32", -1, 100_000))


def test_a_member_that_lies_about_its_size_is_not_expanded() -> None:
    size = 64 * 1024 * 1024
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(size))
    body = out.getvalue().replace(size.to_bytes(4, "little"), (200).to_bytes(4, "little"))
    tracemalloc.start()
    try:
        with pytest.raises(MalformedInput):
            Npz().decode(body, HEAD, {}, model("FP32", -1))
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_compression_that_cannot_be_bounded_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", saved(np.ones(1, np.float32)))
    with pytest.raises(MalformedInput, match="compressed by a method"):
        Npz().decode(out.getvalue(), HEAD, {}, model("FP32", -1))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_with_a_name_twice_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for _ in range(2):
            archive.writestr("x.npy", saved(np.ones(1, np.float32)))
    with pytest.raises(MalformedInput, match='"x" is in the archive twice'):
        Npz().decode(out.getvalue(), HEAD, {}, model("FP32", -1))


def test_npz_replies_are_the_same_bytes_every_time() -> None:
    spec = model("FP32", -1, 2)
    replies = {Npz().encode([np.ones((1, 2), np.float32)], Payload((), 1), spec, "m", "1")[0] for _ in range(2)}
    assert len(replies) == 1


def test_the_expanded_size_counts_and_not_the_compressed_one() -> None:
    """The server moves decoding off the event loop by this size."""
    out = io.BytesIO()
    np.savez_compressed(out, x=np.zeros((1_000, 1_000), np.float32))
    spec = model("FP32", -1, 1_000)
    assert len(out.getvalue()) < 50_000
    assert Npz().expanded_bytes(out.getvalue(), spec) >= 4_000_000
    assert Npz().expanded_bytes(b"no archive", spec) == 10
    assert Npy().expanded_bytes(b"12345", spec) == 5
    with pytest.raises(MalformedInput, match="expands beyond"):
        Npz(3_999_999).decode(out.getvalue(), HEAD, {}, spec)
