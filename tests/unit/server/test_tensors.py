"""Tensor specifications: the dtype table, what a spec accepts, and its JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BrokenArtifact
from server.tensors import BY_NAME, BY_NUMPY, BY_ONNX, DTYPES, DType, ModelSpec, TensorSpec, describe_shape

FP32 = BY_NAME["FP32"]
shapes = st.lists(st.integers(-1, 9), max_size=5).map(tuple)


@pytest.mark.parametrize("row", DTYPES, ids=lambda row: row.name)
def test_every_dtype_is_found_by_each_of_its_names(row: DType) -> None:
    assert BY_NAME[row.name] is BY_ONNX[row.onnx] is BY_NUMPY[row.numpy] is row


@pytest.mark.parametrize("row", DTYPES, ids=lambda row: row.name)
def test_itemsize_is_numpys_and_0_for_strings(row: DType) -> None:
    assert row.itemsize == (0 if row.name == "BYTES" else np.empty(1, row.numpy).nbytes)


def test_the_table_has_the_thirteen_datatypes_of_the_open_inference_protocol() -> None:
    assert {row.name for row in DTYPES} == {
        *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
        *("FP16", "FP32", "FP64", "BYTES"),
    }


@pytest.mark.parametrize(
    ("want", "have", "fits"),
    [
        ((-1, 4), (3, 4), True),
        ((-1, 4), (0, 4), True),
        ((-1, 4), (3, 5), False),
        ((-1, 4), (4,), False),
        ((-1, 4), (3, 4, 1), False),
        ((-1, -1), (3, 4), True),
        ((2, 4), (2, 4), True),
        ((2, 4), (1, 4), False),
        ((), (), True),
        ((), (1,), False),
    ],
)
def test_a_variable_axis_takes_any_size_and_a_fixed_one_its_own(
    want: tuple[int, ...], have: tuple[int, ...], fits: bool
) -> None:
    assert TensorSpec("x", FP32, want).accepts(have) is fits


@given(st.text(), st.sampled_from(DTYPES), shapes)
def test_a_spec_survives_its_json(name: str, dtype: DType, shape: tuple[int, ...]) -> None:
    spec = TensorSpec(name, dtype, shape)
    assert TensorSpec.from_json(spec.to_json()) == spec


@given(shapes, st.integers(0, 9))
def test_a_spec_accepts_its_own_shape_with_any_size_for_the_variable_axes(shape: tuple[int, ...], size: int) -> None:
    assert TensorSpec("x", FP32, shape).accepts(tuple(size if axis == -1 else axis for axis in shape))


GOOD: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}


@pytest.mark.parametrize(
    "row",
    [
        *({key: value for key, value in GOOD.items() if key != gone} for gone in GOOD),
        {**GOOD, "datatype": "FLOAT8"},
        {**GOOD, "datatype": "fp32"},
        {**GOOD, "datatype": ["FP32"]},
        {**GOOD, "shape": None},
        {**GOOD, "shape": 4},
        {**GOOD, "shape": "44"},
        {**GOOD, "shape": [None]},
        {**GOOD, "shape": [-2]},
        {**GOOD, "shape": [4.5]},
        {**GOOD, "shape": [True]},
        {**GOOD, "shape": [float("inf")]},
        {**GOOD, "name": None},
        "x",
        None,
        [],
    ],
    ids=repr,
)
def test_a_row_that_is_no_spec_is_refused_in_one_line_that_shows_it(row: Any) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        TensorSpec.from_json(row)
    message = str(caught.value)
    assert message.endswith(f"got {row!r}")
    assert all(word in message for word in ("name", "shape", "datatype", *BY_NAME))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("inputs", "outputs", "batchable"),
    [
        ([(-1, 4)], [(-1, 3)], True),
        ([(-1, 4), (-1,)], [(-1,)], True),
        ([(-1, 4)], [(3,)], False),
        ([(1, 4)], [(-1, 3)], False),
        ([(-1, 4), ()], [(-1, 3)], False),
        ([(4, -1)], [(-1, 3)], False),
    ],
)
def test_a_model_is_batchable_when_every_first_axis_is_variable(
    inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], batchable: bool
) -> None:
    spec = ModelSpec(*(tuple(TensorSpec("t", FP32, shape) for shape in side) for side in (inputs, outputs)))
    assert spec.batchable is batchable


@pytest.mark.parametrize(("shape", "text"), [((-1, 64), "[any, 64]"), ((), "[]"), ((3,), "[3]")])
def test_shapes_are_spoken_of_in_words(shape: tuple[int, ...], text: str) -> None:
    assert describe_shape(shape) == text
