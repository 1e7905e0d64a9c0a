"""JSON lines: as many lines out as in, whatever a line looks like, and the line that is wrong is named."""

from __future__ import annotations

import numpy as np
import pytest

from server.codecs.csv import Csv
from server.codecs.json import Json
from server.codecs.jsonlines import JsonLines
from server.errors import MalformedInput, NotAcceptable
from server.request import Head, Payload
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

HEAD = Head(b"POST", b"/", [])
X = TensorSpec("x", BY_NAME["FP32"], (-1, 2))
ONE = ModelSpec((X,), (X,))
LABEL = TensorSpec("label", BY_NAME["INT64"], (-1,))
CODEC = JsonLines()


def decode(body: bytes, spec: ModelSpec = ONE) -> Payload:
    return CODEC.decode(body, HEAD, {}, spec)


def encode(outputs: list[Array], spec: ModelSpec, rows: int) -> bytes:
    body, content_type, headers = CODEC.encode(outputs, Payload((), rows), spec, "m", "1")
    assert (content_type, headers) == (b"application/jsonlines", [])
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"[1,2]\n[3,4]\n",
        b"[1,2]\n[3,4]",
        b"[1,2]\r\n[3,4]\r\n",
        b' [1, 2] \n{"x":[3,4]}\n'[:8] + b"\n[3,4]\n\n",
        b'{"x":[1,2]}\n{"x":[3,4]}\n',
        b'{"features":[1,2]}\n{"features":[3,4]}\n',
        b'{"data":{"features":{"values":[1,2]}}}\n{"data":{"features":{"values":[3,4]}}}\n',
    ],
)
def test_every_form_of_a_line_is_a_row(body: bytes) -> None:
    payload = decode(body)
    assert payload.rows == 2
    assert payload.arrays[0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"[1,2]\n\n[3,4]\n", "line 2 is empty"),
        (b"[1,2]\n[3,\n4]\n", "line 2 is not JSON: .* at column"),
        (b"[1,2],[3,4]\n", "line 1 is not JSON"),
        (b"[1,2]\n[3,\xff]\n", "line 2 is not JSON"),
        (b"[1,2]\n[3]\n", "row 1 has 1 values, expected 2"),
        (b'[1,2]\n{"x":[3,4]}\n', "expected a list"),
        (b'{"x":[1,2]}\n[3,4]\n', "row 1 does not have the same names"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, message: str) -> None:
    with pytest.raises(MalformedInput, match=message):
        decode(body)


def test_other_charsets_are_refused() -> None:
    with pytest.raises(MalformedInput, match="always UTF-8"):
        CODEC.decode(b"[1,2]", HEAD, {"charset": "latin-1"}, ONE)


def test_a_row_of_numbers_is_a_line() -> None:
    assert encode([np.array([[0.5, 2], [3, 4]], np.float32)], ONE, 2) == b"[0.5,2.0]\n[3.0,4.0]\n"
    assert encode([np.array([7, 8, 9])], ModelSpec((X,), (LABEL,)), 3) == b"7\n8\n9\n"


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 1, 2, 2), (2, 2, 0), (1, 3), (1,), (3, 0)])
def test_lines_are_what_the_rows_are(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    spec = ModelSpec((X,), (TensorSpec("y", BY_NAME["FP32"], (-1, *shape[1:])),))
    lines = encode([array], spec, shape[0]).splitlines()
    assert [
        Json().decode(b'{"inputs":[%b]}' % line, HEAD, {}, spec_of(array)).arrays[0].tolist() for line in lines
    ] == [[row.tolist()] for row in array]


def spec_of(array: Array) -> ModelSpec:
    tensor = TensorSpec("x", BY_NAME["FP32"], (-1, *array.shape[1:]))
    return ModelSpec((tensor,), (tensor,))


def test_several_outputs_are_objects() -> None:
    outputs = [np.array([[1, 2], [3, 4]], np.float32), np.array([0, 1])]
    assert encode(outputs, ModelSpec((X,), (X, LABEL)), 2) == b'{"x":[1.0,2.0],"label":0}\n{"x":[3.0,4.0],"label":1}\n'


def test_text_and_what_json_has_no_word_for() -> None:
    words = np.array([["a\nb"], ["ü"]], object)
    spec = ModelSpec((X,), (TensorSpec("words", BY_NAME["BYTES"], (-1, 1)),))
    assert encode([words], spec, 2) == '["a\\nb"]\n["ü"]\n'.encode()
    assert encode([np.array([[np.nan, 1]], np.float32)], ONE, 1) == b"[null,1.0]\n"


def test_outputs_that_are_not_rows_are_not_lines() -> None:
    with pytest.raises(NotAcceptable, match="one row of output for each row of input"):
        encode([np.zeros((3, 2), np.float32)], ONE, 2)


def test_a_model_without_a_batch_axis_takes_one_line() -> None:
    tensor = TensorSpec("x", BY_NAME["FP32"], (2, 3))
    spec = ModelSpec((tensor,), (tensor,))
    payload = decode(b"[[1,2,3],[4,5,6]]\n", spec)
    assert payload.arrays[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert encode(list(payload.arrays), spec, 1) == b"[[1.0,2.0,3.0],[4.0,5.0,6.0]]\n"


def test_json_that_was_asked_for_holds_as_many_predictions() -> None:
    payload = decode(b"[1,2]\n[3,4]\n")
    assert Json().encode(payload.arrays, payload, ONE, "m", "1")[0] == b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'
    assert Csv().encode(payload.arrays, payload, ONE, "m", "1")[0] == b"1.0,2.0\n3.0,4.0\n"
