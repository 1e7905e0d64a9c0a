"""Capture lines and their bodies: every format and convention as rows, and faults that are counted, never raised."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.monitor.capture_set import CaptureSet
from container.monitor.events import BadLine, Body, parse
from container.monitor.rows import MAX_COLUMNS, Rows, read


def captured(data: str, encoding: str = "JSON", content_type: str = "application/json", **event: Any) -> bytes:
    side = {"observedContentType": content_type, "mode": "INPUT", "data": data, "encoding": encoding}
    document = {"captureData": {"endpointInput": side}, "eventMetadata": {"eventId": "e", **event}, "eventVersion": "0"}
    return json.dumps(document).encode()


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def rows(data: Any, encoding: str = "JSON") -> list[tuple[tuple[str, ...], list[list[Any]]]]:
    text = data if isinstance(data, str) else json.dumps(data)
    return [(group.names, [list(row) for row in group.rows]) for group in read(Body(encoding, text))]


POSITIONS = ("_c0", "_c1")


@pytest.mark.parametrize(
    ("document", "names", "expected"),
    [
        ({"instances": [[1, 2], [3, 4]]}, POSITIONS, [[1, 2], [3, 4]]),
        ([[1, 2]], POSITIONS, [[1, 2]]),
        ([1, 2], ("_c0",), [[1], [2]]),
        ({"predictions": [0.5, 0.25]}, ("_c0",), [[0.5], [0.25]]),
        ({"instances": [{"a": 1, "b": {"c": 2}}]}, ("a", "b.c"), [[1, 2]]),
        ({"instances": [{"a": [1, 2]}]}, ("a.0", "a.1"), [[1, 2]]),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}, ("a", "b"), [[1, 2]]),
        ({"dataframe_records": [{"a": 1, "b": 2}]}, ("a", "b"), [[1, 2]]),
        ({"inputs": {"a": [1, 3], "b": [2, 4]}}, ("a", "b"), [[1, 2], [3, 4]]),
        ({"inputs": ["text", "more"]}, ("_c0",), [["text"], ["more"]]),
        ({"a": 1, "b": None}, ("a", "b"), [[1, None]]),
        (
            {
                "inputs": [
                    {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]},
                    {"name": "y", "shape": [2, 1], "datatype": "BYTES", "data": ["p", "q"]},
                ]
            },
            ("x.0", "x.1", "y"),
            [[1, 2, "p"], [3, 4, "q"]],
        ),
        (
            {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1, 2], [3, 4]]}]},
            ("x.0", "x.1"),
            [[1, 2], [3, 4]],
        ),
        (
            {"outputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]},
            ("x",),
            [[1], [2]],
        ),
        (
            {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": None}]},
            ("x",),
            [[None], [None]],
        ),
    ],
)  # fmt: skip
def test_conventions_of_json(document: Any, names: tuple[str, ...], expected: list[list[Any]]) -> None:
    assert rows(document) == [(names, expected)]


def test_lines_and_csv() -> None:
    assert rows("[1,2]\n[3,4]\n") == [(POSITIONS, [[1, 2], [3, 4]])]
    (group,) = read(Body("JSON", "[1,2]\n", lines=True))
    assert (group.names, [list(row) for row in group.rows]) == (POSITIONS, [[1, 2]])
    assert rows("1,x\n\n3,y\r\n", "CSV") == [(POSITIONS, [["1", "x"], ["3", "y"]])]
    assert rows('1,"x, y"\n', "CSV") == [(POSITIONS, [["1", "x, y"]])]


def test_rows_of_different_columns_are_groups() -> None:
    assert rows([{"a": 1}, {"b": 2}, {"b": 3}]) == [(("a",), [[1]]), (("b",), [[2], [3]])]


def test_binary_tensors() -> None:
    header = json.dumps({
        "inputs": [
            {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": 16}},
            {"name": "t", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 11}},
        ]
    }).encode()  # fmt: skip
    raw = header + np.array([1, 2, 3, 4], np.float32).tobytes() + b"\x01\0\0\0p\x02\0\0\0qr"
    line = captured(
        encoded(raw), "BASE64", f"application/vnd.sagemaker-triton.binary+json;json-header-size={len(header)}"
    )
    asked = parse(line).asked
    assert asked is not None
    ((names, values),) = [(group.names, [list(row) for row in group.rows]) for group in read(asked)]
    assert names == ("x.0", "x.1", "t")
    assert values == [[1.0, 2.0, "p"], [3.0, 4.0, "qr"]]


def test_json_and_csv_behind_base64_are_read_as_the_platform_writes_them() -> None:
    for text, content_type, encoding in (("1,2\n", "text/csv", "CSV"), ("[[1,2]]", "application/json", "JSON")):
        asked = parse(captured(encoded(text.encode()), "BASE64", content_type)).asked
        assert asked == Body(encoding, text)


def test_ids_are_the_client_s_before_the_platform_s() -> None:
    assert parse(captured("[1]")).identity == "e"
    assert parse(captured("[1]", inferenceId="mine")).identity == "mine"


def test_the_payload_log_of_kserve() -> None:
    base = {"specversion": "1.0", "id": "7", "source": "s", "datacontenttype": "application/json"}
    asked = {**base, "type": "org.kubeflow.serving.inference.request", "data": {"instances": [[1, 2]]}}
    answered = {
        **base,
        "type": "org.kubeflow.serving.inference.response",
        "data_base64": encoded(b'{"predictions":[3]}'),
    }
    first, second = (parse(json.dumps(one).encode()) for one in (asked, answered))
    assert (first.identity, second.identity) == ("7", "7")
    assert first.asked is not None
    assert second.answered is not None
    assert read(first.asked)[0].rows == [[1, 2]]
    assert [list(row) for row in read(second.answered)[0].rows] == [[3]]


def test_lines_of_open_inference() -> None:
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    assert parse(json.dumps({"id": "9", "inputs": [tensor]}).encode()).asked is not None
    assert parse(json.dumps({"outputs": [tensor]}).encode()).answered is not None


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"\xff\xfe", b"[]", b"3", b"{}", b'{"captureData":3}', b'{"captureData":{"endpointInput":3}}',
        b'{"captureData":{"endpointInput":{"data":3}}}', b"[" * 10_000,
        captured("!!", "BASE64"), captured("AAAA", "BASE64", "image/png"), captured("x", "ROT13"),
        captured("AAAA", "BASE64", "application/vnd.sagemaker-triton.binary+json;json-header-size=-1"),
        captured("AAAA", "BASE64", "application/vnd.sagemaker-triton.binary+json;json-header-size=99"),
        captured('{"inputs":[{"name":"x","datatype":"FP32","shape":[-1],"data":[1]}]}'),
        captured('{"inputs":[{"name":"x","datatype":"FP32","shape":"all","data":[1]}]}'),
        captured('{"dataframe_split":{"columns":["a"],"data":[3]}}'),
        captured("[" * 400 + "]" * 400), captured("{nonsense"), captured('{"columns":["a"],"data":7}'),
    ],
)  # fmt: skip
def test_bad_lines_are_counted(line: bytes) -> None:
    found = CaptureSet()
    found.add(line, None, "")
    found.finish()
    assert found.inputs.rows == 0
    assert found.bad.total() == (1 if line else 0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "instances", "data", "columns", "dataframe_split", "name", "shape", "datatype", "a"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_is_rows_or_a_bad_line(document: Any) -> None:
    found = CaptureSet()
    found.add(captured(json.dumps(document)), None, "")
    found.finish()
    assert found.events + found.bad.total() >= 1
    for column in found.columns.values():
        assert column.count <= found.inputs.rows


def test_wide_rows_are_cut() -> None:
    ((names, (row,)),) = rows([[0] * (MAX_COLUMNS + 5)])
    assert len(names) == len(row) == MAX_COLUMNS


def test_empty_data_of_redaction_is_no_fault() -> None:
    found = CaptureSet()
    found.add(captured("", "BASE64", "image/png"), None, "")
    assert (found.events, found.bad.total()) == (1, 0)


def test_a_bad_line_names_its_fault() -> None:
    with pytest.raises(BadLine, match="no JSON"):
        parse(b"{")
    assert Rows(("a",), []).rows == []
