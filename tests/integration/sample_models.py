"""Small models written to disk, each for one property that the server must cope with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from server import artifact as artifacts
from server.artifact import Batching, Manifest
from server.tensors import BY_NAME, ModelSpec, TensorSpec

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
MLP_FEATURES, MLP_CLASSES = 8, 3

Value = tuple[str, int, Sequence[int | str]]
"""Name, element type and shape of an ONNX input or output; a text in the shape is a variable axis."""


def fake(
    root: Path, *, name: str = "fake", version: str = "1", batch_sizes: tuple[int, ...] = (1, 2, 4, 8), **fields: Any
) -> Path:
    """An artifact of the fake backend; ``fields`` are those of ``server/backends/fake.py``."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "model.json").write_text(json.dumps(fields), encoding="utf-8")
    width = int(fields.get("width", 4))
    spec = ModelSpec((TensorSpec("x", BY_NAME["FP32"], (-1, width)),), (TensorSpec("y", BY_NAME["FP32"], (-1, width)),))
    artifacts.write(root, Manifest(name, version, "fake", "model.json", spec, batching=Batching(batch_sizes)))
    return root


def mlp(path: Path) -> Path:
    """``relu(x @ w)``: float32 [any, 8] to [any, 3]; :func:`mlp_answer` knows the weights."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    return _save(
        path,
        nodes,
        [("x", FLOAT, ["n", MLP_FEATURES])],
        [("y", FLOAT, ["n", MLP_CLASSES])],
        {"w": _mlp_weights()},
    )


def mlp_answer(x: np.ndarray) -> np.ndarray:
    answer: np.ndarray = np.maximum(x.astype(np.float32) @ _mlp_weights(), 0)
    return answer


def variable_width(path: Path, factor: float = 3) -> Path:
    """``factor * x``: float32 [any, any]."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["y"])]
    return _save(
        path,
        nodes,
        [("x", FLOAT, ["n", "w"])],
        [("y", FLOAT, ["n", "w"])],
        {"factor": np.array(factor, np.float32)},
    )


def two_and_two(path: Path) -> Path:
    """Inputs a float32 [any, 2] and b int64 [any, 1]; outputs sum [any, 2] and negated b [any, 1]."""
    nodes = [
        helper.make_node("Cast", ["b"], ["float_b"], to=FLOAT),
        helper.make_node("Add", ["a", "float_b"], ["sum"]),
        helper.make_node("Neg", ["b"], ["minus"]),
    ]
    return _save(
        path,
        nodes,
        [("a", FLOAT, ["n", 2]), ("b", INT64, ["n", 1])],
        [("sum", FLOAT, ["n", 2]), ("minus", INT64, ["n", 1])],
    )


def text(path: Path) -> Path:
    """Strings [any, 1] passed through."""
    nodes = [helper.make_node("Identity", ["words"], ["same"])]
    return _save(path, nodes, [("words", STRING, ["n", 1])], [("same", STRING, ["n", 1])])


def no_batch_axis(path: Path) -> Path:
    """``x + x``: float32 [2, 3], and never anything else."""
    return _save(path, [helper.make_node("Add", ["x", "x"], ["y"])], [("x", FLOAT, [2, 3])], [("y", FLOAT, [2, 3])])


def lookup(path: Path, rows: int = 10) -> Path:
    """A table of ``rows`` rows of two: int64 [any, 1] to float32 [any, 1, 2]; the model refuses larger indices."""
    table = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    nodes = [helper.make_node("Gather", ["table", "i"], ["y"])]
    return _save(path, nodes, [("i", INT64, ["n", 1])], [("y", FLOAT, ["n", 1, 2])], {"table": table})


def word_vectors(path: Path, table: np.ndarray) -> Path:
    """A table of float32 [words, width]: int64 ``input_ids`` [any, any] to ``states`` [any, any, width]."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["states"])]
    width = table.shape[1]
    return _save(
        path, nodes, [("input_ids", INT64, ["n", "t"])], [("states", FLOAT, ["n", "t", width])], {"table": table}
    )


def brightest_channel(path: Path, side: int) -> Path:
    """The mean of each of three channels: float32 [any, 3, side, side] to [any, 3]."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Flatten", ["means"], ["y"]),
    ]
    return _save(path, nodes, [("x", FLOAT, ["n", 3, side, side])], [("y", FLOAT, ["n", 3])])


def positives(path: Path) -> Path:
    """The values above zero: float32 [any, 1] to [as many as there are]: not one row out for each row in."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["above"]),
        helper.make_node("Squeeze", ["above", "axis"], ["flat"]),
        helper.make_node("Compress", ["x", "flat"], ["y"], axis=0),
    ]
    constants: dict[str, np.ndarray] = {"zero": np.array(0, np.float32), "axis": np.array([1], np.int64)}
    return _save(path, nodes, [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["k", 1])], constants)


def roots(path: Path) -> Path:
    """Square roots: float32 [any, 2] to [any, 2]; NaN for what is below zero."""
    return _save(path, [helper.make_node("Sqrt", ["x"], ["y"])], [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])])


def total(path: Path) -> Path:
    """The sum of each row: float32 [any, 2] to [any]."""
    nodes = [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)]
    return _save(path, nodes, [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n"])], {"axis": np.array([1], np.int64)})


def scalar(path: Path) -> Path:
    """The sum of all: float32 [2, 2] to a number without axes."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    return _save(path, nodes, [("x", FLOAT, [2, 2])], [("y", FLOAT, [])])


def heavy(path: Path, megabytes: int, layers: int) -> Path:
    """A chain of square matrices that weigh ``megabytes`` together."""
    side = int((megabytes * 1e6 / 4 / layers) ** 0.5)
    random = np.random.default_rng(0)
    weights = {f"w{index}": random.random((side, side), np.float32) for index in range(layers)}
    nodes = [
        helper.make_node("MatMul", [f"h{index}" if index else "x", f"w{index}"], [f"h{index + 1}"])
        for index in range(layers)
    ]
    return _save(path, nodes, [("x", FLOAT, ["n", side])], [(f"h{layers}", FLOAT, ["n", side])], weights)


def _save(
    path: Path,
    nodes: list[Any],
    inputs: list[Value],
    outputs: list[Value],
    constants: dict[str, np.ndarray] | None = None,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def _mlp_weights() -> np.ndarray:
    weights = np.arange(MLP_FEATURES * MLP_CLASSES, dtype=np.float32).reshape(MLP_FEATURES, MLP_CLASSES)
    return weights - np.float32(10)
