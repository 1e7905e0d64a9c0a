"""Zoo graphs with branches, loops, functions of their own, and boxes whose number depends on the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray

from .model import ZooModel
from .onnx_graph import floats, graph, row


def _if_on_values() -> onnx.ModelProto:
    return graph(
        """g (float[N, 3] x) => (float[N, 3] y) {
            s = ReduceSum<keepdims = 0>(x)
            c = Greater(s, z)
            y = If (c) <
                then_branch = g1 () => (float[N, 3] a) { a = Neg(x) },
                else_branch = g2 () => (float[N, 3] b) { b = Mul(x, x) }
            >
        }""",
        z=np.array(0, np.float32),
    )


def _loop_counted() -> onnx.ModelProto:
    return graph(
        """g (float[N, 3] x, int64 count) => (float[N, 3] y) {
            y = Loop (count, keep, x) <
                body = b (int64 i, bool c, float[N, 3] v) => (bool d, float[N, 3] w) { d = Identity(c)  w = Tanh(v) }
            >
        }""",
        keep=np.array(True),
    )


def _switch() -> onnx.ModelProto:
    return graph(
        """g (float[N, 3] x, bool on) => (float[N, 3] y) {
            y = If (on) <
                then_branch = g1 () => (float[N, 3] a) { a = Neg(x) },
                else_branch = g2 () => (float[N, 3] b) { b = Mul(x, x) }
            >
        }"""
    )


def _function() -> onnx.ModelProto:
    return onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 17, "zoo.own" : 1]>
        g (float[N, 3] x) => (float[N, 3] y) { y = zoo.own.twice(x) }
        <domain: "zoo.own", opset_import: ["" : 17]>
        twice (a) => (b) { b = Add(a, a) }"""
    )


def _loop() -> onnx.ModelProto:
    return graph(
        """g (float[N, 3] x) => (float[N, 3] y) {
            y = Loop (count, keep, x) <
                body = b (int64 i, bool c, float[N, 3] v) => (bool d, float[N, 3] w) { d = Identity(c)  w = Tanh(v) }
            >
        }""",
        count=np.array(3, np.int64),
        keep=np.array(True),
    )


def _box_inputs(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    corner = random.random((rows, 6, 2))
    boxes = np.concatenate([corner, corner + random.random((rows, 6, 2))], axis=2)
    return {"boxes": boxes.astype(np.float32), "scores": random.random((rows, 1, 6)).astype(np.float32)}


def _boxes() -> onnx.ModelProto:
    return graph(
        "g (float[N, 6, 4] boxes, float[N, 1, 6] scores) => (int64[K, 3] kept) { kept = "
        "NonMaxSuppression(boxes, scores, most, overlap, least) }",
        most=np.array([4], np.int64),
        overlap=np.array([0.3], np.float32),
        least=np.array([0.4], np.float32),
    )


GRAPHS: tuple[ZooModel, ...] = (
    row("if-on-values", _if_on_values, floats(x=(3,)), independent=False, why="a branch chosen by the whole batch"),
    row("loop", _loop, floats(x=(3,)), why="a loop with a fixed count"),
    row(
        "boxes",
        _boxes,
        _box_inputs,
        independent=False,
        row_counts=(1, 2),
        why="the number of boxes depends on the values",
        large_rows=20,
    ),
    row(
        "loop-count-is-a-value",
        _loop_counted,
        lambda random, rows: {
            "x": random.standard_normal((rows, 3)).astype(np.float32),
            "count": np.array(random.integers(0, 5)),
        },
        independent=False,
        why="a scalar sets how often the loop runs",
    ),
    row(
        "switch",
        _switch,
        lambda random, rows: {
            "x": random.standard_normal((rows, 3)).astype(np.float32),
            "on": np.array(random.integers(0, 2), bool),
        },
        independent=False,
        why="a boolean scalar chooses a branch for the request",
    ),
    row(
        "function-in-the-model",
        _function,
        floats(x=(3,)),
        why="an operator that the model itself defines",
    ),
)
