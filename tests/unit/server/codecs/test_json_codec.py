"""JSON: every convention in, its own phrasing out, and complaints that say what, where and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from server.codecs.json import Json
from server.codecs.json_documents import dump
from server.errors import MalformedInput, NotAcceptable
from server.request import Head, Payload
from server.tensors import BY_NAME, ModelSpec, TensorSpec

HEAD = Head(b"POST", b"/invocations", [])


def tensor(name: str, dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, BY_NAME[dtype], shape)


ONE = ModelSpec((tensor("x", "FP32", -1, 2),), (tensor("y", "FP32", -1, 2),))
TWO = ModelSpec(
    (tensor("a", "FP32", -1, 2), tensor("b", "INT64", -1)), (tensor("p", "FP32", -1, 2), tensor("q", "BYTES", -1))
)
ONE_FEATURE = ModelSpec((tensor("a", "FP32", -1, 1), tensor("b", "BYTES", -1, 1)), (tensor("y", "FP32", -1),))
TEXTS = ModelSpec((tensor("text", "BYTES", -1),), (tensor("y", "FP32", -1),))
NO_BATCH = ModelSpec((tensor("x", "FP32", 2, 2),), (tensor("p", "FP32", 2), tensor("q", "FP32")))


def decode(document: Any, spec: ModelSpec = ONE) -> Payload:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    return Json().decode(body, HEAD, {}, spec)


def values(payload: Payload) -> list[Any]:
    return [array.tolist() for array in payload.arrays]


@pytest.mark.parametrize(
    ("document", "reply"),
    [
        ({"instances": [[1, 2], [3, 4]]}, b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'),
        ({"signature_name": "s", "instances": [[1, 2], [3, 4]]}, b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'),
        ({"instances": [{"features": [1, 2]}, {"features": [3, 4]}]}, b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'),
        (
            {"instances": [{"data": {"features": {"values": v}}} for v in ([1, 2], [3, 4])]},
            b'{"predictions":[[1.0,2.0],[3.0,4.0]]}',
        ),
        ({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'),
        ({"inputs": [[1, 2], [3, 4]], "parameters": {}}, b'{"outputs":[[1.0,2.0],[3.0,4.0]]}'),
        ({"signature_name": "s", "inputs": {"x": [[1, 2], [3, 4]]}}, b'{"outputs":[[1.0,2.0],[3.0,4.0]]}'),
        (
            {"dataframe_split": {"columns": ["f", "g"], "data": [[1, 2], [3, 4]]}},
            b'{"predictions":[[1.0,2.0],[3.0,4.0]]}',
        ),
        ({"dataframe_records": [{"f": 1, "g": 2}, {"g": 4, "f": 3}]}, b'{"predictions":[[1.0,2.0],[3.0,4.0]]}'),
        ([[1, 2], [3, 4]], b"[[1.0,2.0],[3.0,4.0]]"),
    ],
)
def test_a_convention_is_answered_in_kind(document: Any, reply: bytes) -> None:
    payload = decode(document)
    assert values(payload) == [[[1.0, 2.0], [3.0, 4.0]]]
    assert payload.rows == 2
    assert Json().encode(payload.arrays, payload, ONE, "m", "1") == (reply, b"application/json", [])


@pytest.mark.parametrize(
    ("document", "reply"),
    [
        (
            {"instances": [{"a": [1, 2], "b": 5}, {"b": 6, "a": [3, 4]}]},
            b'{"predictions":[{"p":[1.0,2.0],"q":"u"},{"p":[3.0,4.0],"q":"v"}]}',
        ),
        (
            {"inputs": {"b": [5, 6], "a": [[1, 2], [3, 4]]}},
            b'{"outputs":{"p":[[1.0,2.0],[3.0,4.0]],"q":["u","v"]}}',
        ),
        (
            [{"a": [1, 2], "b": 5}, {"a": [3, 4], "b": 6}],
            b'[{"p":[1.0,2.0],"q":"u"},{"p":[3.0,4.0],"q":"v"}]',
        ),
    ],
)
def test_several_outputs_are_named(document: Any, reply: bytes) -> None:
    payload = decode(document, TWO)
    assert values(payload) == [[[1.0, 2.0], [3.0, 4.0]], [5, 6]]
    outputs = [payload.arrays[0], np.array(["u", "v"], object)]
    assert Json().encode(outputs, payload, TWO, "m", "1")[0] == reply


def test_cells_of_a_table_feed_inputs_of_one_feature() -> None:
    want = [[[1.0], [2.0]], [["u"], ["v"]]]
    split = {"columns": ["b", "a"], "data": [["u", 1], ["v", 2]]}
    assert values(decode({"dataframe_split": split}, ONE_FEATURE)) == want
    assert values(decode({"dataframe_records": [{"a": 1, "b": "u"}, {"a": 2, "b": "v"}]}, ONE_FEATURE)) == want


def test_one_row_may_be_bare_but_an_instance_is_never_guessed() -> None:
    assert values(decode([1, 2])) == [[[1.0, 2.0]]]
    assert values(decode({"inputs": [1, 2]})) == [[[1.0, 2.0]]]
    assert values(decode({"inputs": "hello"}, TEXTS)) == [["hello"]]
    with pytest.raises(MalformedInput, match=r"has shape \[2\], expected \[any, 2\]: expected a list at \[0\], got 1"):
        decode({"instances": [1, 2]})


def test_a_model_without_a_batch_axis_is_one_row() -> None:
    payload = decode({"instances": [[1, 2], [3, 4]]}, NO_BATCH)
    assert payload.rows == 1
    outputs = [np.ones(2, np.float32), np.array(0.5, np.float32)]
    assert Json().encode(outputs, payload, NO_BATCH, "m", "1")[0] == b'{"predictions":[{"p":[1.0,1.0],"q":0.5}]}'
    named = decode({"instances": [{"x": [[1, 2], [3, 4]]}]}, NO_BATCH)
    assert values(named) == values(payload)
    with pytest.raises(MalformedInput, match="one row a request, got 2"):
        decode({"instances": [{"x": [[1, 2], [3, 4]]}] * 2}, NO_BATCH)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (b"", "the body is empty"),
        (b'{"instances":\n [1,}', r"line 2 column 5 \(character 18\)"),
        (b'{"instances": [["\xff"]]}', "not UTF-8: byte 17 is 0xff"),
        (7, "must be a JSON object or list, got 7"),
        ({}, "none of the known keys"),
        ({"instances": [], "inputs": []}, "has instances and inputs together"),
        ({"instances": 3}, '"instances" must be a list of rows, got 3'),
        ({"instances": []}, "no rows"),
        ({"instances": [[1, 2, 3], [1, 2, 3]]}, r'"x" has shape \[2, 3\], expected \[any, 2\]: row 0 has 3 values'),
        ({"instances": [[1, 2], [1]]}, r"row 1 has 1 values, expected 2"),
        ({"instances": [[1, 2], [[1], 2]]}, r"expected a number \(FP32\) at \[1\]\[0\], got \[1\]"),
        ({"instances": [[1, "2"]]}, r'expected a number \(FP32\) at \[0\]\[1\], got "2"'),
        ({"instances": [[1, None]]}, r"at \[0\]\[1\], got null"),
        ({"instances": [[1, True]]}, r"at \[0\]\[1\], got true"),
        ({"instances": [[1, 1e39]]}, r"within the range of FP32 at \[0\]\[1\], got 1e\+39"),
        ({"instances": [{"z": [1, 2]}]}, 'row 0 must be a list, or an object with "x" or "features"'),
        ({"instances": [{"data": {"features": {"keys": [0], "shape": [2], "values": [1]}}}]}, "is sparse"),
        ({"instances": [[1, 2], {"x": [1, 2]}]}, r"expected a list at \[1\]"),
        ({"instances": [{"x": [1, 2]}, [1, 2]]}, "row 1 does not have the same names as row 0"),
        ({"inputs": {"z": [[1, 2]]}}, 'unknown input "z"; the model has "x"'),
        ({"dataframe_split": {"columns": ["f", "f"], "data": []}}, "names a column twice"),
        ({"dataframe_split": {"columns": ["f"], "data": [[1, 2]]}}, "row 0 must be a list of 1 values"),
        ({"dataframe_split": [1]}, 'must be an object with "columns"'),
        ({"dataframe_records": []}, "and not empty"),
        ({"dataframe_records": {}}, "must be a list of objects"),
    ],
)
def test_a_complaint_says_what_and_where(document: Any, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        decode(document)


@pytest.mark.parametrize(
    ("dtype", "value", "complaint"),
    [
        ("INT8", 128, "within the range of INT8"),
        ("INT64", 2**63, "within the range of INT64"),
        ("UINT8", -1, "within the range of UINT8"),
        ("INT32", 1.0, r"an integer \(INT32\)"),
        ("INT32", False, r"an integer \(INT32\)"),
        ("FP16", 70000, "within the range of FP16"),
        ("BOOL", 2, "expected true or false"),
        ("BOOL", "true", "expected true or false"),
        ("BYTES", 1, "expected a string"),
    ],
)
def test_values_must_be_the_dtypes_own(dtype: str, value: Any, complaint: str) -> None:
    spec = ModelSpec((tensor("x", dtype, -1, 1),), ONE.outputs)
    with pytest.raises(MalformedInput, match=f"{complaint}.* at \\[0\\]\\[0\\]"):
        decode({"instances": [[value]]}, spec)


def test_higher_ranks_and_variable_axes() -> None:
    spec = ModelSpec((tensor("x", "INT16", -1, -1, 2),), ONE.outputs)
    assert values(decode({"instances": [[[1, 2], [3, 4], [5, 6]]]}, spec)) == [[[[1, 2], [3, 4], [5, 6]]]]
    with pytest.raises(MalformedInput, match=r"row 1 has 2 values, expected 1"):
        decode({"instances": [[[1, 2]], [[3, 4], [5, 6]]]}, spec)
    with pytest.raises(MalformedInput, match=r"\[0\]\[1\] has 1 values, expected 2"):
        decode({"instances": [[[1, 2], [3]]]}, spec)


def test_a_name_that_looks_like_a_literal_costs_nothing_but_time() -> None:
    spec = ModelSpec((tensor("true", "FP32", -1, 1),), ONE.outputs)
    assert values(decode({"inputs": {"true": [[1]]}}, spec)) == [[[1.0]]]


def test_nan_and_infinity_are_written_as_null() -> None:
    payload = decode({"instances": [[1, 2]]})
    for dtype in ("float16", "float32", "float64"):
        outputs = [np.array([[np.nan, -np.inf, 0.5]], dtype)]
        assert Json().encode(outputs, payload, ONE, "m", "1")[0] == b'{"predictions":[[null,null,0.5]]}'


@pytest.mark.parametrize("shape", [(70_000,), (1, 70_000), (2, 3, 30_000), (70_000, 0), (0, 70_000)])
@pytest.mark.parametrize("dtype", ["<f4", "<i8", "<f2", "O"])
def test_a_large_array_is_written_in_pieces_as_it_is_at_once(shape: tuple[int, ...], dtype: str) -> None:
    size = int(np.prod(shape))
    values: Any = np.array(["é", "b"] * size)[:size].astype(object) if dtype == "O" else np.arange(size) % 37 / 4
    array = values.astype(dtype).reshape(shape)
    for document in ({"predictions": array}, [{"a": array, "n": np.float32(0.5), "b": array[:1]}]):
        assert dump(document, large=True) == dump(document)


def test_an_output_that_is_not_text_is_not_acceptable() -> None:
    with pytest.raises(NotAcceptable, match="application/x-npz"):
        Json().encode([np.array([b"\xff"], object)], decode([1, 2]), ONE, "m", "1")


def test_a_foreign_payload_is_answered_with_predictions() -> None:
    foreign = Payload((), 1)
    assert Json().encode([np.zeros((1, 1), np.int8)], foreign, ONE, "m", "1")[0] == b'{"predictions":[[0]]}'


def test_json_is_utf8() -> None:
    assert Json().decode(b"[1,2]", HEAD, {"charset": "UTF-8"}, ONE).rows == 1
    with pytest.raises(MalformedInput, match="always UTF-8"):
        Json().decode(b"[1,2]", HEAD, {"charset": "utf-16"}, ONE)


def test_many_claimed_rows_allocate_nothing() -> None:
    spec = ModelSpec((tensor("x", "FP32", -1, 1_000_000),), ONE.outputs)
    with pytest.raises(MalformedInput, match="expected a list at"):
        decode(b'{"instances":[' + b"0," * 10_000 + b"0]}", spec)
