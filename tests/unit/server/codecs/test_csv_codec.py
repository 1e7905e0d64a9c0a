"""CSV: always two axes, complaints by row and column, shortest digits out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from server.codecs.csv import Csv
from server.errors import MalformedInput, NotAcceptable, UnprocessableInput
from server.request import Head, Payload
from server.tensors import BY_NAME, ModelSpec, TensorSpec

HEAD = Head(b"POST", b"/invocations", [])


def model(dtype: str, *shape: int) -> ModelSpec:
    tensor = TensorSpec("x", BY_NAME[dtype], shape)
    return ModelSpec((tensor,), (tensor,))


def decode(body: bytes, spec: ModelSpec, charset: str | None = None) -> Any:
    (array,) = Csv().decode(body, HEAD, {} if charset is None else {"charset": charset}, spec).arrays
    return array.tolist()


def encode(array: Any) -> bytes:
    return Csv().encode([array], Payload((), 1), model("FP32", -1, 1), "m", "1")[0]


@pytest.mark.parametrize(
    "body", [b"1,2\n3,4", b"1,2\n3,4\n", b"1,2\r\n3,4\r\n", b" 1, 2\n3 ,4", b"\xef\xbb\xbf1,2\n3,4"]
)
def test_line_endings_spaces_and_marks_do_not_matter(body: bytes) -> None:
    assert decode(body, model("FP32", -1, 2)) == [[1.0, 2.0], [3.0, 4.0]]


def test_one_line_is_one_row() -> None:
    assert decode(b"1,2,3", model("INT64", -1, 3)) == [[1, 2, 3]]


def test_lines_fold_into_the_models_axes() -> None:
    assert decode(b"1\n2", model("INT8", -1)) == [1, 2]
    assert decode(b"1,2,3,4", model("INT8", -1, 2, 2)) == [[[1, 2], [3, 4]]]
    assert decode(b"1,2,3,4", model("INT8", -1, -1, 2)) == [[[1, 2], [3, 4]]]
    assert decode(b"true,0\n1,FALSE", model("BOOL", -1, 2)) == [[True, False], [True, False]]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "empty"),
        (b"\r\n", "empty"),
        (b"age,height\n1,2", 'row 0 looks like a header \\("age"\\); remove it'),
        (b'"age","height"\n1,2', "looks like a header"),
        (b"1,2\n3,x", 'row 1, column 1: expected a value of FP32, got "x"'),
        (b"1,2\n3,", 'row 1, column 1: expected a value of FP32, got ""'),
        (b"1_0,2", 'row 0, column 0: .* got "1_0"'),
        ("١,2".encode(), "row 0, column 0"),
        (b"1,2\n3", "row 1 has 1 values, row 0 has 2"),
        (b"1,2\n\n3,4", "row 1 is empty"),
        (b"1,2,3", 'input "x" needs 2 values a row, row 0 has 3'),
        (b"1,1e39", "within the range of FP32"),
        (b"\xff", "not utf-8: byte 0 is 0xff"),
    ],
)
def test_a_complaint_names_row_and_column(body: bytes, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        decode(body, model("FP32", -1, 2))


@pytest.mark.parametrize("value", [b"nan", b"-inf", b"Infinity", b"1e999"])
def test_values_that_are_not_finite_are_unprocessable(value: bytes) -> None:
    with pytest.raises(UnprocessableInput, match=r'input "x" is (NaN|infinite) at \[1\]\[0\]'):
        decode(b"1,2\n" + value + b",3", model("FP64", -1, 2))


def test_charsets() -> None:
    assert decode(b"1,2", model("FP32", -1, 2), "US-ASCII") == [[1.0, 2.0]]
    assert decode(b"caf\xe9", model("BYTES", -1), "latin-1") == ["café"]
    with pytest.raises(MalformedInput, match='charset "klingon" is not read; utf-8'):
        decode(b"1", model("FP32", -1, 1), "klingon")


def test_text_is_one_quoted_column() -> None:
    assert decode(b'plain\n"a, ""b""\nc"\n""', model("BYTES", -1, 1)) == [["plain"], ['a, "b"\nc'], [""]]
    with pytest.raises(MalformedInput, match="row 1 has 2 columns of text, expected 1; quote text"):
        decode(b"a\nb,c", model("BYTES", -1))
    with pytest.raises(MalformedInput, match="not CSV"):
        decode(b'"open', model("BYTES", -1))


def test_floats_are_written_in_the_fewest_digits_of_their_dtype() -> None:
    assert encode(np.array([[0.1, 1 / 3]], np.float32)) == b"0.1,0.33333334\n"
    assert encode(np.array([[0.1, 1 / 3]], np.float64)) == b"0.1,0.3333333333333333\n"
    assert encode(np.array([[0.1, 1 / 3]], np.float16)) == b"0.1,0.3333\n"
    assert encode(np.array([[np.nan, np.inf, 1.5]], np.float32)) == b"nan,inf,1.5\n"


def test_a_row_is_a_line() -> None:
    assert encode(np.array([1, 2, 3])) == b"1\n2\n3\n"
    assert encode(np.array([[1], [2]], np.uint8)) == b"1\n2\n"
    assert encode(np.array([True, False])) == b"true\nfalse\n"
    assert encode(np.array(["a", "b,c", ""], object)) == b'a\n"b,c"\n""\n'
    assert encode(np.zeros((0, 2), np.float32)) == b""


@pytest.mark.parametrize("shape", [(), (1, 2, 3)])
def test_other_ranks_are_not_acceptable(shape: tuple[int, ...]) -> None:
    with pytest.raises(NotAcceptable, match="ask for application/json"):
        encode(np.zeros(shape))
