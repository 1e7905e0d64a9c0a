"""Independence of rows on real data: recurrent, normalizing and ranking models are found, ordinary ones pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.evaluation.dataset import Dataset, Layout
from optimize.evaluation.independence import prove_file
from server.tensors import Array

RNG = np.random.default_rng(0)


def model(path: Path, nodes: list[onnx.NodeProto], output: int = TensorProto.FLOAT, width: int | None = 8) -> Path:
    constants: dict[str, Array] = {
        "zero": np.array(0, np.int64), "zeros": np.array([0], np.int64), "w": RNG.normal(size=(8, 8)).astype(np.float32)
    }  # fmt: skip
    shape: list[str | int | None] = ["rows"] if width is None else ["rows", width]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["rows", 8])],
        [helper.make_tensor_value_info("y", output, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


NODES = {
    "a product": ([helper.make_node("MatMul", ["x", "w"], ["y"])], True),
    "softmax over classes": ([helper.make_node("Softmax", ["x"], ["y"], axis=1)], True),
    "softmax over rows": ([helper.make_node("Softmax", ["x"], ["y"], axis=0)], False),
    "a sum over time": ([helper.make_node("CumSum", ["x", "zero"], ["y"])], False),
    "less the mean of the batch": (
        [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]), helper.make_node("Sub", ["x", "m"], ["y"])], False
    ),
    "one scale for the batch": (
        [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
         helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])], False
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_rows_are_independent_only_if_shown(tmp_path: Path, name: str) -> None:
    nodes, independent = NODES[name]
    data = Dataset({"x": RNG.normal(size=(40, 8)).astype(np.float32)}, None, "0")
    found = prove_file(model(tmp_path / "m.onnx", nodes), data)
    assert found.independent is independent
    assert bool(found.reason) is not independent


def test_rows_with_the_same_answer_are_passed_over(tmp_path: Path) -> None:
    """A classifier that answers 0 for most rows: the proof needs rows that it tells apart."""
    rows = np.zeros((40, 8), np.float32)
    rows[30:, 3] = 1
    nodes = [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)]
    path = model(tmp_path / "m.onnx", nodes, TensorProto.INT64, None)
    assert prove_file(path, Dataset({"x": rows}, None, "0")).independent
    assert prove_file(path, Dataset({"x": rows[:30]}, None, "0")).independent, "shown on synthetic rows"


def test_rows_that_are_not_first_are_not_batched(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    data = Dataset({"x": np.ones((8, 8), np.float32)}, None, "0", Layout({"x": 1}))
    assert "axis 0" in prove_file(model(tmp_path / "m.onnx", nodes), data).reason
