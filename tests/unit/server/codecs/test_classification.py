"""Classification: the best classes of each row, in the texts that Triton's clients split at colons."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from server.codecs import classification
from server.codecs.blobs import read_blob
from server.codecs.open_inference import OpenInference
from server.errors import MalformedInput
from server.models.load.labels import with_labels
from server.request import Head, Payload
from server.tensors import BF16, BY_NAME, Array, ModelSpec, TensorSpec

SCORES = np.array([[0.25, 0.5, 0.25], [3, -1, 2]], np.float32)
ROW: dict[str, Any] = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}


def output(dtype: str = "FP32", *shape: int, labels: tuple[str, ...] = ()) -> TensorSpec:
    return TensorSpec("y", BY_NAME[dtype], shape or (-1, 3), labels=labels)


def spec_of(tensor: TensorSpec) -> ModelSpec:
    return ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 2)),), (tensor,))


def asked(count: Any, spec: ModelSpec, **more: Any) -> Payload:
    outputs = [{"name": "y", "parameters": {"classification": count, **more}}]
    body = orjson.dumps({"inputs": [ROW], "outputs": outputs})
    return OpenInference().decode(body, Head(b"POST", b"/", []), {}, spec)


def best_classes(array: Array, tensor: TensorSpec, count: int, batchable: bool) -> Array:
    """The classes alone; their datatype is always BYTES."""
    best, dtype = classification.best_classes(array, tensor, count, batchable)
    assert dtype.name == "BYTES"
    return best


def test_the_best_of_each_row_are_first_and_of_equal_ones_the_lower_index() -> None:
    best = best_classes(SCORES, output(), 2, batchable=True)
    assert best.tolist() == [["0.5:1", "0.25:0"], ["3.0:0", "2.0:2"]]


def test_labels_follow_the_index() -> None:
    best = best_classes(SCORES, output(labels=("cat", "a:b", "dög")), 9, batchable=True)
    assert best.tolist() == [["0.5:1:a:b", "0.25:0:cat", "0.25:2:dög"], ["3.0:0:cat", "2.0:2:dög", "-1.0:1:a:b"]]


def test_without_a_batch_axis_all_values_are_one_row() -> None:
    assert best_classes(SCORES, output("FP32", 2, 3), 2, batchable=False).tolist() == ["3.0:3", "2.0:5"]
    assert best_classes(np.array(7, np.float32), output("FP32"), 3, batchable=False).tolist() == ["7.0:0"]


def test_further_axes_of_a_row_are_one() -> None:
    cube = np.arange(12, dtype=np.int64).reshape(2, 2, 3)
    assert best_classes(cube, output("INT64", -1, 2, 3), 1, batchable=True).tolist() == [["5:5"], ["11:5"]]


@pytest.mark.parametrize("dtype", ["UINT8", "UINT64", "INT8", "INT64"])
def test_integers_are_ordered_at_their_limits(dtype: str) -> None:
    limits = np.iinfo(BY_NAME[dtype].numpy)
    row = np.array([[0, limits.max, limits.min, 1]], BY_NAME[dtype].numpy)
    order = [text.split(":")[1] for text in best_classes(row, output(dtype), 4, batchable=True)[0]]
    assert order[:2] == ["1", "3"]
    assert set(order[2:]) == {"0", "2"}


def test_nan_is_last() -> None:
    row = np.array([[np.nan, -np.inf, np.inf, 0]], np.float32)
    assert best_classes(row, output(), 4, batchable=True)[0].tolist() == ["inf:2", "0.0:3", "-inf:1", "nan:0"]


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(0, 6)), elements=st.floats(width=32)),
    st.integers(1, 8),
)
def test_every_number_can_be_read_again(scores: np.ndarray, count: int) -> None:
    best = best_classes(scores, output("FP32", -1, -1), count, batchable=True)
    assert best.shape == (len(scores), min(count, scores.shape[1]))
    for texts, row in zip(best.tolist(), scores, strict=True):
        values = [(np.float32(value), int(index)) for value, index in (text.split(":") for text in texts)]
        assert all(value == row[index] or np.isnan(row[index]) for value, index in values)
        kept = [value for value, _ in values if not np.isnan(value)]
        assert kept == sorted(kept, reverse=True)


@pytest.mark.parametrize("binary", [True, False])
def test_the_output_becomes_bytes_in_both_forms(binary: bool) -> None:
    spec = spec_of(output(labels=("a", "b", "c")))
    body, _, headers = OpenInference().encode([SCORES], asked(1, spec, binary_data=binary), spec, "m", "1")
    length = int(headers[0][1]) if headers else len(body)
    (row,) = orjson.loads(body[:length])["outputs"]
    assert (row["name"], row["datatype"], row["shape"]) == ("y", "BYTES", [2, 1])
    texts = row.get("data")
    if binary:
        blob = memoryview(body)[length:]
        texts = read_blob(blob, (2, 1), TensorSpec("y", BY_NAME["BYTES"], (-1, 1))).ravel().tolist()
    assert texts == ["0.5:1:b", "3.0:0:a"]


@pytest.mark.parametrize("count", [-1, 1.5, "2", True, [1], {}])
def test_a_count_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(MalformedInput, match="number of classes"):
        asked(count, spec_of(output()))


@pytest.mark.parametrize("count", [0, None])
def test_no_classes_leave_the_output_as_it_is(count: Any) -> None:
    spec = spec_of(output())
    body, _, _ = OpenInference().encode([SCORES], asked(count, spec), spec, "m", "1")
    assert orjson.loads(body)["outputs"][0]["datatype"] == "FP32"


@pytest.mark.parametrize("dtype", ["BYTES", "BOOL"])
def test_what_has_no_order_has_no_best_class(dtype: str) -> None:
    with pytest.raises(MalformedInput, match="only numbers"):
        asked(1, spec_of(output(dtype)))


def test_bfloat16_and_float16_are_numbers_too() -> None:
    half = np.array([[0.1, 0.2]], np.float16)
    assert best_classes(half, output("FP16", -1, 2), 1, batchable=True).tolist() == [["0.2:1"]]
    spec = spec_of(TensorSpec("y", BF16, (-1, 3)))
    assert asked(2, spec).notes.classes == (2,)


def test_labels_belong_to_the_outputs_with_one_value_for_each() -> None:
    outputs = (output(), output("INT64", -1), output("BYTES", -1, 3), output("FP32", 3), output("FP32", -1, 4))
    spec = with_labels(ModelSpec((), outputs), ["a", "b", "c"])
    assert [bool(one.labels) for one in spec.outputs] == [True, False, False, True, False]
    assert with_labels(spec, ()) is spec
