"""The V1 codec: the two forms of a predict request, the signature, and bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from server.codecs.v1 import V1Json
from server.errors import MalformedInput, UnprocessableInput
from server.request import Head, Payload
from server.tensors import BY_NAME, RAW_BYTES, DType, ModelSpec, TensorSpec

CODEC = V1Json()


def tensor(name: str, dtype: DType | str = "FP32", shape: tuple[int, ...] = (-1, 2)) -> TensorSpec:
    return TensorSpec(name, dtype if isinstance(dtype, DType) else BY_NAME[dtype], shape)


ONE = ModelSpec((tensor("x"),), (tensor("y"),))
TWO = ModelSpec((tensor("a"), tensor("b", "INT64", (-1, 1))), (tensor("sum"), tensor("minus", "INT64", (-1, 1))))


def decode(document: Any, spec: ModelSpec = ONE) -> Payload:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return CODEC.decode(body, Head(b"POST", b"/", []), {}, spec)


def answer(payload: Payload, outputs: list[np.ndarray], spec: ModelSpec) -> Any:
    body, media, _ = CODEC.encode(outputs, payload, spec, "m", "1")
    assert media == b"application/json"
    return orjson.loads(body)


@pytest.mark.parametrize("signature", [{}, {"signature_name": ""}, {"signature_name": "serving_default"}])
@pytest.mark.parametrize("rows", [[[1.0, 2.0], [3.0, 4.0]], [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}]])
def test_rows_give_predictions(rows: list[Any], signature: dict[str, str]) -> None:
    payload = decode({"instances": rows, **signature})
    assert payload.arrays[0].tolist() == [[1, 2], [3, 4]]
    assert answer(payload, [payload.arrays[0]], ONE) == {"predictions": [[1, 2], [3, 4]]}


@pytest.mark.parametrize("columns", [[[1.0, 2.0]], {"x": [[1.0, 2.0]]}])
def test_columns_give_outputs(columns: Any) -> None:
    payload = decode({"inputs": columns})
    assert answer(payload, [payload.arrays[0]], ONE) == {"outputs": [[1, 2]]}


def test_several_tensors_have_names_in_both_forms() -> None:
    outputs = [np.ones((2, 2), np.float32), np.array([[-5], [-6]])]
    rows = decode({"instances": [{"a": [1, 2], "b": [5]}, {"a": [3, 4], "b": [6]}]}, TWO)
    columns = decode({"inputs": {"a": [[1, 2], [3, 4]], "b": [[5], [6]]}}, TWO)
    for payload in (rows, columns):
        assert [array.tolist() for array in payload.arrays] == [[[1, 2], [3, 4]], [[5], [6]]]
    assert answer(rows, outputs, TWO) == {
        "predictions": [{"sum": [1, 1], "minus": [-5]}, {"sum": [1, 1], "minus": [-6]}]
    }
    assert answer(columns, outputs, TWO) == {"outputs": {"sum": [[1, 1], [1, 1]], "minus": [[-5], [-6]]}}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "both"),
        ({}, "neither"),
        ({"specversion": "1.0", "data": {"instances": [[1, 2]]}}, "application/cloudevents"),
        ({"dataframe_split": {"columns": ["x"], "data": [[1]]}}, "neither"),
        ([[1, 2]], "object"),
        (b"null", "object"),
        (b"", "empty"),
        (b"{", "not JSON"),
        ({"instances": [[1, 2]], "signature_name": "other"}, "other"),
        ({"instances": [[1, 2]], "signature_name": 5}, "5"),
        ({"instances": [[1, 2]], "signature_name": ["serving_default"]}, "signature"),
        ({"instances": []}, "no rows"),
        ({"instances": None}, "list"),
        ({"instances": [1, 2]}, "shape"),
        ({"instances": [[1, 2], [3]]}, "row 1"),
        ({"instances": [[1, "2"]]}, '"2"'),
        ({"instances": [[1, True]]}, "true"),
        ({"instances": [{"x": [1, 2]}, {"z": [1, 2]}]}, "row 1"),
        ({"inputs": {"z": [[1, 2]]}}, '"z"'),
        ({"inputs": 5}, "list"),
    ],
)
def test_other_bodies_are_refused_with_the_place(document: Any, named: str) -> None:
    with pytest.raises(MalformedInput, match=named):
        decode(document)


def test_nan_is_refused_in_and_null_out() -> None:
    with pytest.raises(UnprocessableInput):
        decode(b'{"instances": [[NaN, 1]]}')
    assert answer(decode({"instances": [[1, 2]]}), [np.array([[np.nan, np.inf]])], ONE) == {
        "predictions": [[None, None]]
    }


def test_bytes_are_base64_and_text_is_text() -> None:
    spec = ModelSpec(
        (tensor("image", RAW_BYTES, (-1,)),), (tensor("y", "BYTES", (-1,)), tensor("z_bytes", "BYTES", (-1,)))
    )
    payload = decode({"instances": [{"b64": "/w=="}, {"b64": "YQ=="}]}, spec)
    assert payload.arrays[0].tolist() == [b"\xff", b"a"]
    outputs = [np.array([b"\xff", b"a"], object), np.array(["a", b"b"], object)]
    assert answer(payload, outputs, spec) == {
        "predictions": [
            {"y": {"b64": "/w=="}, "z_bytes": {"b64": "YQ=="}},
            {"y": "a", "z_bytes": {"b64": "Yg=="}},
        ]
    }
    with pytest.raises(MalformedInput, match="base64"):
        decode({"instances": [{"b64": "?"}]}, spec)
