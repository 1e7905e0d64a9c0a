"""The ONNX model beside a script, as its default model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from server.errors import MalformedInput
from server.scripts.onnx_model import OnnxModel
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

FP32 = BY_NAME["FP32"]


class Doubling:
    """Two inputs of [any, any]; gives their sum, doubled, and remembers the rows of each run."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.spec = ModelSpec(
            tuple(TensorSpec(name, FP32, (-1, -1)) for name in names), (TensorSpec("y", FP32, (-1, -1)),)
        )
        self.rows: list[int] = []

    def run(self, batch: Sequence[Array]) -> list[Array]:
        self.rows.append(len(batch[0]))
        return [2 * sum(batch[1:], start=batch[0])]

    def close(self) -> None:
        """Nothing."""


def test_rows_of_one_shape_share_a_run_and_come_back_to_their_callers() -> None:
    session = Doubling(("x",))
    inputs = [[[1.0, 2.0]], np.ones((2, 3)), [[3, 4], [5, 6]], [7.0, 8.0]]
    outputs = OnnxModel(session).predict_all(inputs)
    assert [output.tolist() for output in outputs] == [[[2, 4]], [[2] * 3] * 2, [[6, 8], [10, 12]], [[14, 16]]]
    assert sorted(session.rows) == [2, 4]


def test_several_inputs_are_given_by_name() -> None:
    onnx_model = OnnxModel(Doubling(("a", "b")))
    assert onnx_model.predict({"b": [[1]], "a": [[2]]}).tolist() == [[6]]
    with pytest.raises(MalformedInput, match="'b'"):
        onnx_model.predict({"a": [[1]]})
    with pytest.raises(MalformedInput, match="a, b"):
        onnx_model.predict([[1]])


@pytest.mark.parametrize("data", [["text"], {"x": None}, [[[1.0]]], 1.0])
def test_what_does_not_fit_the_model_is_the_callers_fault(data: object) -> None:
    with pytest.raises(MalformedInput):
        OnnxModel(Doubling(("x",))).predict({"x": data} if not isinstance(data, dict) else data)


class Texts:
    """One input of texts [any, 1]; returns it."""

    spec = ModelSpec((TensorSpec("x", BY_NAME["BYTES"], (-1, 1)),), (TensorSpec("y", BY_NAME["BYTES"], (-1, 1)),))

    def run(self, batch: Sequence[Array]) -> list[Array]:
        return list(batch)

    def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    "data", [[["é"]], [["é".encode()]], np.array([["é"]]), np.array([["é".encode()]]), np.array([["é"]], object), ["é"]]
)
def test_texts_and_bytes_reach_a_model_of_texts(data: object) -> None:
    (row,) = OnnxModel(Texts()).predict(data).tolist()
    assert row == ["é"]
    assert OnnxModel(Texts()).predict([["a\0b\0"]]).tolist() == [["a\0b\0"]]


@pytest.mark.parametrize("data", [[[1]], [[None]], [[b"\xff"]], [["a"], ["b", "c"]]])
def test_other_values_for_texts_are_the_callers_fault(data: object) -> None:
    with pytest.raises(MalformedInput):
        OnnxModel(Texts()).predict(data)


class Totals(Doubling):
    """Each row less the sum of all rows."""

    def run(self, batch: Sequence[Array]) -> list[Array]:
        self.rows.append(len(batch[0]))
        return [batch[0] - batch[0].sum(axis=0, keepdims=True)]


def test_dependent_rows_of_several_calls_never_share_a_run() -> None:
    session = Totals(("x",))
    model = OnnxModel(session, independent=None)
    inputs = [[[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]]]
    outputs = model.predict_all(inputs)
    assert [output.tolist() for output in outputs] == [[[0, 0]], [[-5, -6], [-3, -4]]]
    assert session.rows[-2:] == [1, 2]
    runs = len(session.rows)
    model.predict_all(inputs)
    assert len(session.rows) == runs + 2


def test_independent_rows_are_shown_once_and_then_share_runs() -> None:
    session = Doubling(("x",))
    model = OnnxModel(session, independent=None)
    for _ in range(2):
        assert [one.tolist() for one in model.predict_all([[[1.0, 2.0]], [[3.0, 4.0]]])] == [[[2, 4]], [[6, 8]]]
        assert session.rows[-1] == 2
