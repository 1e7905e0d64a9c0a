"""What scripts are told of a request's media types, and the default input_fn and output_fn."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from server.errors import MalformedInput, NotAcceptable, SlipwayError, UnsupportedMedia
from server.scripts.default_functions import accepted, decode, encode, media_of, text_of


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"application/json", ("application/json", "utf-8")),
        (b"TEXT/CSV; charset=latin-1", ("text/csv", "latin-1")),
        (b"application/json; charset=utf-8", ("application/json", "utf-8")),
        (b"nonsense", ("nonsense", "utf-8")),
        (None, (None, "utf-8")),
    ],
)
def test_a_script_is_told_the_type_without_its_parameters(header: bytes | None, expected: tuple[str, str]) -> None:
    assert media_of(header, "") == expected


def test_a_missing_content_type_is_the_default_where_there_is_one() -> None:
    assert media_of(None, "text/csv") == ("text/csv", "utf-8")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "application/json"),
        (b"*/*", "application/json"),
        (b"application/json;q=0.9", "application/json"),
        (b"text/csv, application/json", "text/csv"),
        (b"text/csv;q=0.1, application/x-npy", "application/x-npy"),
        (b"image/png", "image/png"),
    ],
)
def test_a_script_is_asked_for_one_concrete_type(header: bytes | None, expected: str) -> None:
    assert accepted(header, "application/json, text/csv") == expected


@pytest.mark.parametrize("kind", ["application/json", "text/csv"])
def test_json_and_csv_are_text_and_all_else_is_bytes(kind: str) -> None:
    assert text_of("ä".encode("latin-1"), kind, "latin-1") == "ä"
    assert text_of(b"\xff", "application/octet-stream", "utf-8") == b"\xff"
    with pytest.raises(MalformedInput, match="byte 0 is 0xff"):
        text_of(b"\xff", kind, "utf-8")


def save(array: Any, **more: Any) -> bytes:
    stream = io.BytesIO()
    if more:
        np.savez(stream, **more)
    else:
        np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("[[1, 2], [3, 4]]", "application/json", np.array([[1, 2], [3, 4]])),
        ('{"instances": [[1.5]]}', "application/json", np.array([[1.5]])),
        ('{"inputs": [1]}', "application/json", np.array([1])),
        ("1,2\n3,4\n", "text/csv", np.array([[1, 2], [3, 4]])),
        ("1.5,2", "text/csv", np.array([[1.5, 2.0]])),
        ("a,2", "text/csv", np.array([["a", "2"]], object)),
        (save(np.eye(2, dtype=np.float32)), "application/x-npy", np.eye(2, dtype=np.float32)),
    ],
)
def test_the_default_input_fn_gives_arrays(body: Any, kind: str, expected: Any) -> None:
    got = decode(body, kind)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_an_object_without_rows_stays_one_and_npz_gives_arrays_by_name() -> None:
    assert decode('{"text": "hello"}', "application/json") == {"text": "hello"}
    assert decode('{"instances": [{"x": 1}]}', "application/json") == [{"x": 1}]
    assert decode(save(None, a=np.arange(3)), "application/x-npz")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        ("[1,", "application/json", MalformedInput),
        ("[[1], [2, 3]]", "application/json", MalformedInput),
        ("", "text/csv", MalformedInput),
        ("1,2\n3", "text/csv", MalformedInput),
        (save(np.array([{}], object)), "application/x-npy", MalformedInput),
        (b"PK", "application/x-npz", MalformedInput),
        (b"", "image/png", UnsupportedMedia),
        (b"", None, UnsupportedMedia),
    ],
)
def test_what_the_toolkit_answers_500_is_the_callers_fault(
    body: Any, kind: str | None, error: type[SlipwayError]
) -> None:
    with pytest.raises(error):
        decode(body, kind)


@pytest.mark.parametrize(
    ("prediction", "accept", "expected"),
    [
        (np.array([[1, 2]]), "application/json", b"[[1,2]]"),
        (np.array([1.0, np.nan]), "application/json", b"[1.0,null]"),
        ({"a": np.float32(0.5), 1: np.array([True])}, "application/json", b'{"a":0.5,"1":[true]}'),
        (np.arange(6).reshape(2, 3).T, "application/json", b"[[0,3],[1,4],[2,5]]"),
        (np.array([1, 2]), "text/csv", b"1\n2\n"),
        ([[1, "a,b"], [2, 'c"']], "text/csv", b'1,"a,b"\n2,"c"""\n'),
        ([1, 2], "image/png, text/csv;q=0.5", b"1\n2\n"),
    ],
)
def test_the_default_output_fn_writes(prediction: Any, accept: str, expected: bytes) -> None:
    assert encode(prediction, accept)[0] == expected


def test_the_default_output_fn_writes_npy() -> None:
    body, kind = encode([[1.0]], "application/x-npy")
    assert kind == "application/x-npy"
    assert np.load(io.BytesIO(body)).tolist() == [[1.0]]
    assert json.loads(encode({"a": {1}}, "application/json")[0]) == {"a": [1]}


@pytest.mark.parametrize(
    ("prediction", "accept"),
    [([1], "image/png"), (np.float32(1), "text/csv"), (np.zeros((1, 1, 1)), "text/csv"), ([{}], "application/x-npy")],
)
def test_what_cannot_be_written_is_not_acceptable(prediction: Any, accept: str) -> None:
    with pytest.raises(NotAcceptable):
        encode(prediction, accept)
