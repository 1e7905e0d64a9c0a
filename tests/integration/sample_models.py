"""Small models written to disk, each for one property that the server must cope with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from server import artifact as artifacts
from server.artifact import Batching, Manifest
from server.tensors import BY_NAME, ModelSpec, TensorSpec
from tests.zoo.onnx_graph import graph

MLP_FEATURES, MLP_CLASSES = 8, 3


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
    return _save(path, "(float[n, 8] x) => (float[n, 3] y) { h = MatMul(x, w) y = Relu(h) }", w=_mlp_weights())


def mlp_answer(x: np.ndarray) -> np.ndarray:
    answer: np.ndarray = np.maximum(x.astype(np.float32) @ _mlp_weights(), 0)
    return answer


def variable_width(path: Path, factor: float = 3) -> Path:
    """``factor * x``: float32 [any, any]."""
    return _save(path, "(float[n, w] x) => (float[n, w] y) { y = Mul(x, factor) }", factor=np.array(factor, np.float32))


def two_and_two(path: Path) -> Path:
    """Inputs a float32 [any, 2] and b int64 [any, 1]; outputs sum [any, 2] and negated b [any, 1]."""
    return _save(
        path,
        """(float[n, 2] a, int64[n, 1] b) => (float[n, 2] sum, int64[n, 1] minus) {
            f = Cast<to = 1>(b)  sum = Add(a, f)  minus = Neg(b)
        }""",
    )


def text(path: Path) -> Path:
    """Strings [any, 1] passed through."""
    return _save(path, "(string[n, 1] words) => (string[n, 1] same) { same = Identity(words) }")


def no_batch_axis(path: Path) -> Path:
    """``x + x``: float32 [2, 3], and never anything else."""
    return _save(path, "(float[2, 3] x) => (float[2, 3] y) { y = Add(x, x) }")


def lookup(path: Path, rows: int = 10) -> Path:
    """A table of ``rows`` rows of two: int64 [any, 1] to float32 [any, 1, 2]; the model refuses larger indices."""
    table = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    return _save(path, "(int64[n, 1] i) => (float[n, 1, 2] y) { y = Gather(table, i) }", table=table)


def word_vectors(path: Path, table: np.ndarray) -> Path:
    """A table of float32 [words, width]: int64 ``input_ids`` [any, any] to ``states`` [any, any, width]."""
    outputs = f"(float[n, t, {table.shape[1]}] states)"
    return _save(path, f"(int64[n, t] input_ids) => {outputs} {{ states = Gather(table, input_ids) }}", table=table)


def brightest_channel(path: Path, side: int) -> Path:
    """The mean of each of three channels: float32 [any, 3, side, side] to [any, 3]."""
    inputs = f"(float[n, 3, {side}, {side}] x)"
    return _save(path, f"{inputs} => (float[n, 3] y) {{ means = GlobalAveragePool(x) y = Flatten(means) }}")


def positives(path: Path) -> Path:
    """The values above zero: float32 [any, 1] to [as many as there are]: not one row out for each row in."""
    body = "above = Greater(x, zero) flat = Squeeze(above, axis) y = Compress<axis = 0>(x, flat)"
    constants: dict[str, np.ndarray] = {"zero": np.array(0, np.float32), "axis": np.array([1], np.int64)}
    return _save(path, f"(float[n, 1] x) => (float[k, 1] y) {{ {body} }}", **constants)


def roots(path: Path) -> Path:
    """Square roots: float32 [any, 2] to [any, 2]; NaN for what is below zero."""
    return _save(path, "(float[n, 2] x) => (float[n, 2] y) { y = Sqrt(x) }")


def total(path: Path) -> Path:
    """The sum of each row: float32 [any, 2] to [any]."""
    return _save(path, "(float[n, 2] x) => (float[n] y) { y = ReduceSum<keepdims = 0>(x, axis) }", axis=np.array([1]))


def scalar(path: Path) -> Path:
    """The sum of all: float32 [2, 2] to a number without axes."""
    return _save(path, "(float[2, 2] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }")


def heavy(path: Path, megabytes: int, layers: int) -> Path:
    """A chain of square matrices that weigh ``megabytes`` together."""
    side = int((megabytes * 1e6 / 4 / layers) ** 0.5)
    random = np.random.default_rng(0)
    weights = {f"w{index}": random.random((side, side), np.float32) for index in range(layers)}
    names = ["x", *(f"h{index}" for index in range(1, layers)), "y"]
    body = " ".join(f"{names[index + 1]} = MatMul({names[index]}, w{index})" for index in range(layers))
    return _save(path, f"(float[n, {side}] x) => (float[n, {side}] y) {{ {body} }}", **weights)


def _save(path: Path, text: str, **constants: np.ndarray) -> Path:
    model = graph(f"small {text}", ir=9, opset=17, domains="", **constants)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def _mlp_weights() -> np.ndarray:
    weights = np.arange(MLP_FEATURES * MLP_CLASSES, dtype=np.float32).reshape(MLP_FEATURES, MLP_CLASSES)
    return weights - np.float32(10)
