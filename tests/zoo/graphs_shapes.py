"""Zoo graphs whose signature is not one batch axis in front of fixed features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import TensorProto, helper

from .model import ZooModel
from .onnx_graph import floats, graph, open_session_of_one_row, row, sizes, weight


def _edges(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    nodes = int(random.integers(3, 9))
    return {
        "x": random.standard_normal((nodes, 4)).astype(np.float32),
        "edges": random.integers(0, nodes, (2, rows + 2)).astype(np.int64),
    }


def _with_axes(axes: Any, *, output_shape: bool = True) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes if output_shape else None)],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


GRAPHS: tuple[ZooModel, ...] = (
    row(
        "graph-network",
        lambda: graph(
            """g (float[nodes, 4] x, int64[2, E] edges) => (float[nodes, 4] y) {
                    z = Constant<value_ints = [0]>()  o = Constant<value_ints = [1]>()
                    s = Gather<axis = 0>(edges, z0)  d = Gather<axis = 0>(edges, o0)
                    m = Gather<axis = 0>(x, s)  u = Unsqueeze(d, o)  sh = Shape(m)  i = Expand(u, sh)
                    y = ScatterElements<axis = 0, reduction = "add">(x, i, m)
                }""",
            opset=18,
            z0=np.array(0, np.int64),
            o0=np.array(1, np.int64),
        ),
        _edges,
        independent=False,
        why="nodes and edges are two free axes, and neither is a batch",
    ),
    row(
        "two-sets",
        lambda: graph(
            "g (float[N, 4] a, float[M, 4] b) => (float[N, M] y) { t = Transpose<perm = [1, 0]>(b) y = MatMul(a, t) }"
        ),
        sizes(a=("rows", 4), b=("m", 4)),
        independent=False,
        why="one set is compared with another: the two first axes have two names",
    ),
    row(
        "candidates-of-a-query",
        lambda: graph(
            "g (float[1, 4] q, float[C, 4] c) => (float[C] y) { t = Transpose<perm = [1, 0]>(q) s = "
            "MatMul(c, t) a = Constant<value_ints = [1]>() y = Squeeze(s, a) }"
        ),
        sizes(q=(1, 4), c=("rows", 4)),
        independent=False,
        why="one query and many candidates",
    ),
    row(
        "no-inputs",
        lambda: graph("g () => (float[2] y) { y = Constant<value_floats = [1.5, 2.5]>() }"),
        lambda random, rows: {},
        independent=False,
        row_counts=(1,),
        why="nothing is asked",
        large_rows=0,
    ),
    row(
        "scalar-input",
        lambda: graph("g (float x) => (float y) { y = Add(x, x) }"),
        lambda random, rows: {"x": np.array(random.standard_normal(), np.float32)},
        independent=False,
        row_counts=(1,),
        why="a tensor without axes",
        large_rows=0,
    ),
    row(
        "scalar-beside-rows",
        lambda: graph("g (float[N, 3] x, float t) => (float[N, 3] y) { y = Mul(x, t) }"),
        lambda random, rows: {
            "x": random.standard_normal((rows, 3)).astype(np.float32),
            "t": np.array(random.standard_normal(), np.float32),
        },
        independent=False,
        why="a scalar holds for the whole request, so requests cannot share a run",
    ),
    row(
        "vector-beside-rows",
        lambda: graph("g (float[N, 3] x, float[3] t) => (float[N, 3] y) { y = Mul(x, t) }"),
        lambda random, rows: {
            "x": random.standard_normal((rows, 3)).astype(np.float32),
            "t": random.standard_normal(3).astype(np.float32),
        },
        independent=False,
        why="an input without a batch axis beside one with it",
    ),
    row(
        "first-input-without-rows",
        lambda: graph("g (float[3] t, float[N, 3] x) => (float[N, 3] y) { y = Mul(x, t) }"),
        lambda random, rows: {
            "t": random.standard_normal(3).astype(np.float32),
            "x": random.standard_normal((rows, 3)).astype(np.float32),
        },
        independent=False,
        why="the first input has no batch axis",
    ),
    row(
        "voice-state",
        lambda: graph(
            "g (float[B, 8] input, float[2, B, 4] state, int64 sr) => (float[B, 1] output, float[2, B, "
            "4] stateN) { m = ReduceMean<axes = [1]>(input) f = Cast<to = 1>(sr) d = Div(m, f) output = "
            "Sigmoid(d) stateN = Tanh(state) }"
        ),
        lambda random, rows: {
            "input": random.standard_normal((rows, 8)).astype(np.float32),
            "state": random.standard_normal((2, rows, 4)).astype(np.float32),
            "sr": np.array(16000, np.int64),
        },
        independent=False,
        row_counts=(1, 2),
        why="a state whose batch axis is the second, and a scalar",
    ),
    replace(
        row(
            "fixed-batch-1",
            lambda: graph("g (float[1, 2] x) => (float[1, 2] y) { y = Softmax<axis = 1>(x) }"),
            floats(x=(2,)),
            why="a batch of one is fixed: more rows are run one by one",
        ),
        source=open_session_of_one_row,
        judged_by_source=True,
        large_rows=40,
    ),
    row(
        "fixed-batch-3",
        lambda: graph("g (float[3, 2] x) => (float[3, 2] y) { y = Softmax<axis = 1>(x) }"),
        floats(x=(2,)),
        decidable=False,
        row_counts=(3,),
        large_rows=0,
        why="a batch of three is fixed: no other number of rows is legal",
    ),
    row(
        "fixed-batch-3-mixing",
        lambda: graph("g (float[3, 2] x) => (float[3, 2] y) { y = Softmax<axis = 0>(x) }"),
        floats(x=(2,)),
        independent=False,
        row_counts=(3,),
        large_rows=0,
        why="a fixed batch of three whose rows depend on each other",
    ),
    replace(
        row(
            "fixed-image",
            lambda: graph(
                "g (float[1, 3, 8, 8] x) => (float[1, 4] y) "
                "{ p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w) }",
                w=weight(3, 4),
            ),
            floats(x=(3, 8, 8)),
            why="an exported image network with a fixed batch of one",
        ),
        source=open_session_of_one_row,
        judged_by_source=True,
        large_rows=40,
    ),
    row(
        "free-image-sizes",
        lambda: graph(
            "g (float[N, 3, H, W] x) => (float[N, 4] y) { p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w) }",
            w=weight(3, 4),
        ),
        sizes(x=("rows", 3, "h", "w")),
        why="height and width are free",
    ),
    row(
        "segmentation",
        lambda: graph("g (float[N, 3, H, W] x) => (float[N, 2, H, W] y) { y = Conv(x, w) }", w=weight(2, 3, 1, 1)),
        sizes(x=("rows", 3, "h", "w")),
        why="the output is as large as the input",
    ),
    row(
        "one-axis",
        lambda: graph("g (float[N] x) => (float[N] y) { y = Mul(x, x) }"),
        lambda random, rows: {"x": random.standard_normal(rows).astype(np.float32)},
        why="a row is a number",
    ),
    row(
        "long-row",
        lambda: graph("g (float[N, 240000] x) => (float[N, 1] y) { y = ReduceMean<axes = [1]>(x) }"),
        floats(x=(240_000,)),
        row_counts=(1,),
        why="a row of 240,000 numbers",
        large_rows=0,
    ),
    row(
        "narrow-rows",
        lambda: graph("g (float[N, 1] x) => (float[N, 1] y) { y = Neg(x) }"),
        floats(x=(1,)),
        row_counts=(1, 1000),
        large_rows=20_000,
        why="very many very narrow rows",
    ),
    row("minus-one-axis", lambda: _with_axes([-1, 3]), floats(x=(3,)), why="an exporter wrote -1 for the batch axis"),
    row(
        "question-mark-axes",
        lambda: _with_axes(["?", "?"]),
        floats(x=(3,)),
        why="unrelated axes share the name '?'",
    ),
    row("unnamed-axes", lambda: _with_axes([None, 3]), floats(x=(3,)), why="the batch axis has no name"),
    row(
        "no-output-shape",
        lambda: _with_axes(["N", 3], output_shape=False),
        floats(x=(3,)),
        why="the output declares no shape",
    ),
    row(
        "unknown-rank",
        lambda: _with_axes(None),
        floats(x=(3,)),
        why="the input declares no rank",
        load_error="broken_artifact",
        remedy="update_model_dims",
    ),
)
