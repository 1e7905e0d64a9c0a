"""Zoo graphs whose outputs have axes that depend on values or on the batch, or no batch axis at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Refusal, ZooModel
from .onnx_graph import floats, graph, of_dtype, row, sizes, weight

_ZERO = np.array([0], np.int64)
_ONE = np.array([1], np.int64)


def _pointers(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    return {"x": random.standard_normal((rows, 3)).astype(np.float32), "to": random.integers(0, rows, rows)}


def _segments(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    return {"x": random.standard_normal((rows, 3)).astype(np.float32), "part": random.integers(0, 4, rows)}


def _best(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    return {"x": random.standard_normal((rows, 5)).astype(np.float32), "k": np.array([random.integers(1, 5)])}


GRAPHS: tuple[ZooModel, ...] = (
    row(
        "mask-as-wide-as-the-longest",
        lambda: graph(
            "g (int64[N] length) => (bool[N, W] mask) { w = ReduceMax<keepdims = 0>(length)  r = Range(zero, w, one)  "
            "u = Unsqueeze(length, axis)  mask = Less(r, u) }",
            zero=np.array(0, np.int64),
            one=np.array(1, np.int64),
            axis=_ONE,
        ),
        of_dtype(np.int64, 1, 12, (), "length"),
        why="the second axis of the output is the largest value of the batch",
        independent=False,
    ),
    row(
        "constant-beside-rows",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 3] y, float[2] version) "
            "{ y = Neg(x)  version = Constant<value_floats = [1.5, 2.0]>() }"
        ),
        floats(x=(3,)),
        why="one output has no batch axis",
        independent=False,
    ),
    row(
        "mean-beside-rows",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 3] y, float[1, 3] m) { y = Neg(x)  m = ReduceMean<axes = [0]>(x) }"
        ),
        floats(x=(3,)),
        why="one output describes the whole batch",
        independent=False,
    ),
    row(
        "quantized-outputs",
        lambda: graph(
            "g (float[N, 3] x) => (uint8[N, 3] q, float scale, uint8 zero) "
            "{ q, scale, zero = DynamicQuantizeLinear(x) }"
        ),
        floats(x=(3,)),
        why="two outputs are scalars of the whole batch",
        independent=False,
    ),
    row(
        "best-row",
        lambda: graph("g (float[N, 3] x) => (int64[3] best) { best = ArgMax<axis = 0, keepdims = 0>(x) }"),
        floats(x=(3,)),
        why="the output is an index into the batch",
        independent=False,
    ),
    row(
        "row-pointers",
        lambda: graph("g (float[N, 3] x, int64[N] to) => (float[N, 3] y) { y = Gather<axis = 0>(x, to) }"),
        _pointers,
        why="a row names another row of its batch",
        independent=False,
    ),
    row(
        "segment-sums",
        lambda: graph(
            "g (float[N, 3] x, int64[N] part) => (float[4, 3] y) { u = Unsqueeze(part, axis)  s = Shape(x)  "
            'i = Expand(u, s)  y = ScatterElements<axis = 0, reduction = "add">(zeros, i, x) }',
            opset=18,
            axis=_ONE,
            zeros=np.zeros((4, 3), np.float32),
        ),
        _segments,
        why="rows are added up by segment: four rows of output for any number of rows",
        independent=False,
        # The output has no rows, so the server takes an instance for a whole request.
        refusals={"instances": Refusal(400, "malformed_input")},
        rtol=1e-3,
    ),
    row(
        "k-best-columns",
        lambda: graph(
            "g (float[N, 5] x, int64[1] k) => (float[N, K] v, int64[N, K] i) { v, i = TopK<axis = 1>(x, k) }"
        ),
        _best,
        why="an input sets the width of the output for the whole request",
        independent=False,
    ),
    row(
        "batch-last",
        lambda: graph("g (float[3, N] x) => (float[3, N] y) { y = Softmax<axis = 0>(x) }"),
        lambda random, rows: {"x": random.standard_normal((3, rows)).astype(np.float32)},
        why="the batch axis is the last",
        independent=False,
    ),
    row(
        "batch-second",
        lambda: graph(
            "g (float[time, B, 3] x) => (float[time, B, 4] y) { h, last, cell = LSTM<hidden_size = 4>(x, w, r)  "
            "y = Squeeze(h, axis) }",
            w=weight(1, 16, 3),
            r=weight(1, 16, 4, seed=8),
            axis=_ONE,
        ),
        sizes(x=("rows", "b", 3)),
        why="the layout of recurrent layers: time, batch, features",
        independent=False,
    ),
    row(
        "whole-sequence-reader",
        lambda: graph(
            "g (float[N, L, 3] x) => (float[N, 8] y) { t = Transpose<perm = [1, 0, 2]>(x)  "
            'h, last = GRU<hidden_size = 4, direction = "bidirectional">(t, w, r)  '
            "p = Transpose<perm = [1, 0, 2]>(last)  y = Flatten(p) }",
            w=weight(2, 12, 3),
            r=weight(2, 12, 4, seed=8),
        ),
        sizes(x=("rows", "length", 3)),
        why="rows of one length are independent; a padded row is another row",
        large_rows=60,
    ),
    row(
        "video",
        lambda: graph("g (float[N, 2, T, 4, 4] x) => (float[N, 2] y) { p = GlobalAveragePool(x)  y = Flatten(p) }"),
        sizes(x=("rows", 2, "t", 4, 4)),
        why="five axes, one of them free",
    ),
    row(
        "repeated-by-value",
        lambda: graph(
            "g (float[1, 3] x, int64[1] times) => (float[M, 3] y) { t = Concat<axis = 0>(times, one)  y = Tile(x, t) }",
            one=_ONE,
        ),
        lambda random, rows: {
            "x": random.standard_normal((1, 3)).astype(np.float32),
            "times": np.array([rows], np.int64),
        },
        why="the number of output rows is a value",
        independent=False,
    ),
    row(
        "empty-output",
        lambda: graph(
            "g (float[N, 3] x) => (float[M, 3] y) { b = Greater(f, big)  y = Compress<axis = 0>(x, b) }".replace(
                "{ ", "{ f = ReduceSum<keepdims = 0>(x, one)  ", 1
            ),
            big=np.array(1e6, np.float32),
            one=_ONE,
        ),
        floats(x=(3,)),
        why="no row of output at all",
        independent=False,
    ),
    row(
        "sum-without-axes",
        lambda: graph("g (float[N, 3] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }"),
        floats(x=(3,)),
        why="the output is a scalar",
        independent=False,
        rtol=1e-3,
    ),
)
