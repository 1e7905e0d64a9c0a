"""Independence: random graphs with and without one operation over rows, slow models, and models that take few rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.backends.independence import (
    BUDGET_NS,
    CONSTANT,
    HALF,
    SINGLE,
    SLOW_NS,
    Independence,
    prove,
    prove_synthetic,
    same,
)
from server.errors import UnprocessableInput
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec
from tests.onnx_graphs import OUT4, ROWS, W44, graph, node

SPEC = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, 4)),), (TensorSpec("y", BY_NAME["FP32"], (-1, 4)),))
DISTINCT = [np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)]

Nodes = Callable[[str, str], list[onnx.NodeProto]]

BY_ROW: dict[str, Nodes] = {
    "MatMul": lambda x, y: [node("MatMul", f"{x} w", y)],
    "Tanh": lambda x, y: [node("Tanh", x, y)],
    "Softmax": lambda x, y: [node("Softmax", x, y, axis=1)],
    "LayerNormalization": lambda x, y: [node("LayerNormalization", f"{x} scale", y, axis=1)],
    "CumSum": lambda x, y: [node("CumSum", f"{x} one", y)],
    "ReduceMean": lambda x, y: [node("ReduceMean", x, y + "m", axes=[1], keepdims=1), node("Sub", f"{x} {y}m", y)],
}
OVER_ROWS: dict[str, Nodes] = {
    "Softmax": lambda x, y: [node("Softmax", x, y, axis=0)],
    "CumSum": lambda x, y: [node("CumSum", f"{x} zero", y)],
    "ReduceMean": lambda x, y: [node("ReduceMean", x, y + "m", axes=[0], keepdims=1), node("Sub", f"{x} {y}m", y)],
    "ReduceMax": lambda x, y: [node("ReduceMax", x, y + "m", keepdims=0), node("Sub", f"{x} {y}m", y)],
    "one scale": lambda x, y: [
        node("DynamicQuantizeLinear", x, f"{y}q {y}s {y}z"),
        node("DequantizeLinear", f"{y}q {y}s {y}z", y),
    ],
}


def chain(operations: Sequence[Nodes]) -> ort.InferenceSession:
    nodes: list[onnx.NodeProto] = []
    for index, operation in enumerate(operations):
        here = "x" if index == 0 else f"v{index}"
        nodes += operation(here, "y" if index == len(operations) - 1 else f"v{index + 1}")
    constants = {
        "w": W44,
        "scale": np.ones(4, np.float32),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
    }
    return ort.InferenceSession(graph(nodes, ROWS, OUT4, constants).SerializeToString())


def shown(session: ort.InferenceSession) -> Independence:
    return prove_synthetic(lambda batch: session.run(None, {"x": batch[0]}), SPEC, clock=lambda: 0)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(sorted(BY_ROW)), min_size=1, max_size=5))
def test_operations_on_single_rows_stay_independent(names: list[str]) -> None:
    assert shown(chain([BY_ROW[name] for name in names])).independent


@given(
    st.lists(st.sampled_from(["MatMul", "LayerNormalization", "CumSum"]), max_size=2),
    st.sampled_from(sorted(OVER_ROWS)),
    st.lists(st.sampled_from(["MatMul", "CumSum"]), max_size=2),
)
def test_one_operation_over_rows_is_found_wherever_it_stands(before: list[str], over: str, after: list[str]) -> None:
    operations = [*(BY_ROW[name] for name in before), OVER_ROWS[over], *(BY_ROW[name] for name in after)]
    assert not shown(chain(operations)).independent


@pytest.mark.parametrize(
    "ordinary",
    [lambda x: x.max() < 50, lambda x: x.min() > -50, lambda x: np.abs(x).sum(axis=1).min() > 0],
    ids=["a huge row", "a row far below zero", "a row of zeros"],
)
def test_a_branch_that_only_an_unusual_row_takes_is_found(ordinary: Callable[[Array], bool]) -> None:
    def run(batch: Sequence[Array]) -> list[Array]:
        return [-batch[0] if ordinary(batch[0]) else batch[0] ** 2]

    found = prove(run, SPEC, DISTINCT, clock=lambda: 0)
    assert not found.independent


class Timed:
    """Doubles rows, each of which takes ``row_ns``; refuses more than ``largest`` rows."""

    def __init__(self, row_ns: int = 0, largest: int = 1 << 30) -> None:
        self.now_ns = 0
        self.rows: list[int] = []
        self._row_ns = row_ns
        self._largest = largest

    def run(self, batch: Sequence[Array]) -> list[Array]:
        self.rows.append(len(batch[0]))
        self.now_ns += self._row_ns * len(batch[0])
        if len(batch[0]) > self._largest:
            raise UnprocessableInput("too many rows")
        return [batch[0] * 2]

    def prove(self, rows: Sequence[Array] = DISTINCT, most_rows: int = 32) -> Independence:
        return prove(self.run, SPEC, rows, most_rows=most_rows, clock=lambda: self.now_ns)


def test_a_quick_model_is_shown_with_many_rows_up_to_a_full_batch() -> None:
    model = Timed()
    assert model.prove().independent
    assert model.rows[:7] == [1, 1, 1, 1, 1, 1, 6]
    assert max(model.rows) == 32


def test_a_slow_model_is_shown_with_three_runs_whose_costs_are_kept() -> None:
    model = Timed(row_ns=BUDGET_NS)
    assert model.prove() == Independence(True, "", {1: BUDGET_NS, 2: 2 * BUDGET_NS})
    assert model.rows == [1, 1, 2]


def test_a_slow_model_is_shown_further_as_time_allows() -> None:
    model = Timed(row_ns=SLOW_NS + 1)
    assert model.prove().independent
    assert len(model.rows) > 3
    assert model.now_ns <= BUDGET_NS


def test_a_model_that_is_slow_once_is_shown_as_a_quick_one() -> None:
    model = Timed()
    costs = iter([BUDGET_NS] + [0] * 100)

    def run(batch: Sequence[Array]) -> list[Array]:
        model.now_ns += next(costs)
        return model.run(batch)

    assert prove(run, SPEC, DISTINCT, clock=lambda: model.now_ns).independent
    assert max(model.rows) == 32


@pytest.mark.parametrize(("largest", "independent"), [(2, True), (1, False)])
def test_a_model_that_takes_few_rows_is_shown_with_two(largest: int, independent: bool) -> None:
    found = Timed(largest=largest).prove()
    assert found.independent is independent
    assert ("not decidable" in found.reason) is not independent


def test_one_row_and_equal_answers_show_nothing() -> None:
    assert Timed().prove([DISTINCT[0][:1]]).reason.startswith("not decidable")
    assert prove(lambda batch: [batch[0] * 0], SPEC, DISTINCT).reason == CONSTANT
    assert prove(lambda batch: [batch[0] * np.float32("nan")], SPEC, DISTINCT).reason == CONSTANT


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "equal"),
    [
        ([1.0, 2.0], [1.0, 2.0005], SINGLE, True),
        ([1.0, 2.0], [1.0, 2.01], SINGLE, False),
        ([1.0, 2.0], [1.0, 2.01], HALF, True),
        ([1.0, np.nan], [1.0, np.nan], SINGLE, True),
        ([1.0, np.nan], [1.0, 2.0], SINGLE, False),
        ([1.0, np.inf], [1.0, np.inf], SINGLE, True),
        ([1.0, np.inf], [1.0, -np.inf], SINGLE, False),
    ],
)
def test_answers_are_equal_within_the_rounding_of_their_format(
    one: list[float], other: list[float], tolerance: float, equal: bool
) -> None:
    assert same(np.array(one, np.float32), np.array(other, np.float32), tolerance) is equal


def test_whole_numbers_and_texts_are_equal_or_not() -> None:
    assert not same(np.array([1_000_000]), np.array([1_000_001]), SINGLE)
    assert same(np.array(["a"], object), np.array(["a"], object), SINGLE)
