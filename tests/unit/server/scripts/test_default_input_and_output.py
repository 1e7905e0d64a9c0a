"""What scripts are told of a request's media types, and the default input_fn and output_fn."""

from __future__ import annotations

import io
import json
from collections import deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.errors import MalformedInput, ModelFailed, NotAcceptable, SlipwayError, UnsupportedMedia
from server.scripts.default_input import decode
from server.scripts.default_output import encode
from server.scripts.media_types import accepted, media_of, text_of


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
        ("a,2", "text/csv", np.array([["a", 2]], object)),
        ("a,2\nb,x", "text/csv", np.array([["a", "2"], ["b", "x"]], object)),
        ('"a, b",1.5\n"c ""d""",', "text/csv", np.array([["a, b", 1.5], ['c "d"', np.nan]], object)),
        ('"1","2"\r\n', "text/csv", np.array([[1, 2]])),
        ("1,,3\n", "text/csv", np.array([[1, np.nan, 3]])),
        ("\ufeff1,2\n\n", "text/csv", np.array([[1, 2]])),
        ("[[1, null], [NaN, 4]]", "application/json", np.array([[1, np.nan], [np.nan, 4]])),
        ('[["a", 1], ["b", null]]', "application/json", np.array([["a", 1], ["b", None]], object)),
        ('["a", "b"]', "application/json", np.array(["a", "b"])),
        (save(np.eye(2, dtype=np.float32)), "application/x-npy", np.eye(2, dtype=np.float32)),
    ],
)
def test_the_default_input_fn_gives_arrays(body: Any, kind: str, expected: Any) -> None:
    got = decode(body, kind)
    assert got.dtype == expected.dtype
    assert all(a == b or (a != a and b != b) for a, b in zip(got.flat, expected.flat, strict=True))
    assert [type(value) for value in got.flat] == [type(value) for value in expected.flat]


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
        (np.array([["a", None]], object), "text/csv", b'a,""\n'),
        (np.ma.array([1, 2], mask=[False, True]), "text/csv", b"1.0\nnan\n"),
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


def test_only_an_object_of_just_rows_becomes_an_array() -> None:
    """Other keys have a meaning for the script: Hugging Face's parameters, for example."""
    with_parameters = '{"inputs": ["a", "b"], "parameters": {"top_k": 2}}'
    assert decode(with_parameters, "application/json") == {"inputs": ["a", "b"], "parameters": {"top_k": 2}}
    assert decode('{"instances": [[1]], "signature_name": "x"}', "application/json").tolist() == [[1]]


def test_base64_in_json_becomes_bytes() -> None:
    assert decode('{"instances": [{"b64": "AAE="}]}', "application/json") == [b"\x00\x01"]
    assert decode('[{"b64": "AAE="}, {"b64": ""}]', "application/json").tolist() == [b"\x00\x01", b""]
    with pytest.raises(MalformedInput, match="base64"):
        decode('{"instances": [{"b64": "?"}]}', "application/json")


class Point(NamedTuple):
    """A value that is a tuple by inheritance."""

    x: int
    y: float


WRITTEN: list[tuple[Any, str]] = [
    (Decimal("1.10"), "1.10"),
    ({"price": Decimal("Infinity")}, '{"price":null}'),
    (range(3), "[0,1,2]"),
    ({np.int64(1): "a", np.float32(0.5): "b", np.str_("c"): "d", b"e": 1}, '{"1":"a","0.5":"b","c":"d","e":1}'),
    ({(1): {np.int8(2): [np.bool_(True)]}}, '{"1":{"2":[true]}}'),
    (np.int64(7), "7"),
    (np.float16(0.5), "0.5"),
    (np.array([1, 2], ">i4"), "[1,2]"),
    (np.array(["setosa", "virginica"]), '["setosa","virginica"]'),
    (np.array([b"a", b"b"]), '["a","b"]'),
    (np.array([[Decimal(1), None], ["x", 2]], object), '[[1,null],["x",2]]'),
    (np.datetime64("2026-11-29"), '"2026-11-29T00:00:00"'),
    (datetime(2026, 11, 29, 1, 2, 3, tzinfo=UTC), '"2026-11-29T01:02:03+00:00"'),
    ({"day": date(2026, 11, 29)}, '{"day":"2026-11-29"}'),
    (timedelta(seconds=1.5), "1.5"),
    (2**70, "1180591620717411303424"),
    ({"big": [-(2**64)]}, '{"big":[-18446744073709551616]}'),
    (Point(1, 2.5), "[1,2.5]"),
    ({"a": 1}.keys(), '["a"]'),
    (deque([1, 2]), "[1,2]"),
    ([np.nan, -np.inf, None], "[null,null,null]"),
    (MappingProxyType({"a": 1}), '{"a":1}'),
    (np.longdouble(1.5), "1.5"),
    (np.array([1.5], np.longdouble), "[1.5]"),
    (np.array(["NaT", "2026-11-29"], "M8[s]"), '[null,"2026-11-29T00:00:00"]'),
    (np.ma.array([1, 2], mask=[False, True]), "[1,null]"),
    (np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]), "[[1,2.5]]"),
    (memoryview(b"text"), '"text"'),
    (torch.eye(2).to_sparse(), "[[1.0,0.0],[0.0,1.0]]"),
]


@pytest.mark.parametrize(
    ("prediction", "expected"), WRITTEN, ids=lambda value: "" if isinstance(value, memoryview) else str(value)[:30]
)
def test_values_of_python_and_numpy_are_written_as_json(prediction: Any, expected: str) -> None:
    assert encode(prediction, "application/json")[0].decode() == expected
    assert encode({"wrapped": [prediction]}, "application/json")[0].decode() == f'{{"wrapped":[{expected}]}}'


def test_values_of_pandas_are_written_as_json() -> None:
    pandas = pytest.importorskip("pandas")
    values = [
        (pandas.DataFrame({"a": [1, 2], "b": [0.5, None]}), b"[[1.0,0.5],[2.0,null]]"),
        (pandas.Series(["x", "y"]), b'["x","y"]'),
        (pandas.array([1, None], dtype="Int64"), b"[1,null]"),
        ([pandas.NaT, pandas.NA, pandas.Timestamp("2026-11-29")], b'[null,null,"2026-11-29T00:00:00"]'),
    ]
    for prediction, expected in values:
        assert encode(prediction, "application/json")[0] == expected


@pytest.mark.parametrize(
    "prediction",
    [object(), 1j, np.array([1j]), b"\xff", {(1, 2): 3}, "\ud800", [object], lambda: 0, np.array([b"\xff"])],
)
def test_a_prediction_that_json_cannot_hold_is_the_scripts_fault(prediction: Any) -> None:
    with pytest.raises(ModelFailed, match="cannot be written"):
        encode({"y": prediction}, "application/json")


KEYS = st.text(max_size=2) | st.integers() | st.builds(np.int8, st.integers(-9, 9))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.dates()
    | st.builds(np.float32, st.floats(width=32))
    | st.builds(np.int64, st.integers(-(2**63), 2**63 - 1))
    | st.builds(range, st.integers(0, 3)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text(max_size=2) | st.integers() | st.builds(np.int8, st.integers(-9, 9)), inner, max_size=3
        )
        | st.lists(inner, max_size=2).map(lambda values: np.array([*values, None], object)[:-1])
    ),
    max_leaves=10,
)


@given(prediction=VALUES)
def test_any_prediction_is_json_or_the_scripts_fault(prediction: Any) -> None:
    try:
        body, _ = encode(prediction, "application/json")
    except ModelFailed:
        return
    json.loads(body, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_torch_tensors_are_written_with_their_gradient_and_in_bfloat16() -> None:
    tensor = torch.tensor([[1.0, 2.5]], requires_grad=True)
    assert encode(tensor, "application/json")[0] == b"[[1.0,2.5]]"
    assert encode({"y": [tensor.bfloat16()]}, "application/json")[0] == b'{"y":[[[1.0,2.5]]]}'
    assert encode(tensor, "text/csv")[0] == b"1.0,2.5\n"
    assert np.load(io.BytesIO(encode(tensor, "application/x-npy")[0])).tolist() == [[1.0, 2.5]]
    assert encode([tensor[0], tensor[0]], "text/csv")[0] == b"1.0,2.5\n1.0,2.5\n"
