"""Zoo graphs whose rows are not independent although their first axis is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from .model import ZooModel
from .onnx_graph import floats, graph, row, weight


def _lstm_time_first() -> onnx.ModelProto:
    return graph(
        """g (float[time, 3] x) => (float[time, 4] y) {
            axis = Constant<value_ints = [1]>()
            x3 = Unsqueeze(x, axis)
            h, last, cell = LSTM<hidden_size = 4>(x3, w, r)
            y3 = Squeeze(h, axis)
            y = Squeeze(y3, axis)
        }""",
        w=weight(1, 16, 3),
        r=weight(1, 16, 4, seed=8),
    )


def _over_rows(body: str, outputs: str = "float[N, 3] y", **weights: Any) -> Callable[[], onnx.ModelProto]:
    return lambda: graph(f"g (float[N, 3] x) => ({outputs}) {{ {body} }}", **weights)


def _dynamic_int8() -> onnx.ModelProto:
    return graph(
        """g (float[N, 3] x) => (float[N, 2] y) {
            q, s, z = DynamicQuantizeLinear(x)
            i = MatMulInteger(q, w, z)
            f = Cast<to = 1>(i)
            y = Mul(f, s)
        }""",
        w=np.random.default_rng(3).integers(-100, 100, (3, 2)).astype(np.int8),
    )


def _scan() -> onnx.ModelProto:
    body = onnx.parser.parse_graph(
        "body (float[3] s, float[3] v) => (float[3] t, float[3] o) { t = Add(s, v) o = Identity(t) }"
    )
    scan = helper.make_node("Scan", ["init", "x"], ["last", "y"], num_scan_inputs=1, body=body)
    made = helper.make_graph(
        [scan],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.zeros(3, np.float32), "init")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _mixes_rows() -> list[ZooModel]:
    """Graphs whose rows are not independent although their first axis is free."""
    x3 = floats(x=(3,))
    zero = np.array([0], np.int64)
    mixing: list[tuple[str, Callable[[], onnx.ModelProto], str]] = [
        ("lstm-time-first", _lstm_time_first, "the first axis is time"),
        ("softmax-axis-0", _over_rows("y = Softmax<axis = 0>(x)"), "softmax over the rows"),
        ("cumsum-axis-0", _over_rows("y = CumSum(x, a)", a=np.array(0, np.int64)), "running sum over the rows"),
        ("centred-by-batch", _over_rows("m = ReduceMean<axes = [0]>(x)  y = Sub(x, m)"), "the mean of the batch"),
        ("scaled-by-batch", _over_rows("m = ReduceMax<keepdims = 0>(x)  y = Div(x, m)"), "the maximum of the batch"),
        (
            "attention-over-rows",
            _over_rows("t = Transpose<perm = [1, 0]>(x) s = MatMul(x, t) p = Softmax<axis = 1>(s) y = MatMul(p, x)"),
            "rows attend to each other",
        ),
        (
            "reversed-rows",
            _over_rows(
                "y = Slice(x, s, e, a, st)",
                s=np.array([-1], np.int64),
                e=np.array([-(2**31)], np.int64),
                a=zero,
                st=np.array([-1], np.int64),
            ),
            "the order of the rows is turned round",
        ),
        (
            "sorted-rows",
            _over_rows(("n = Shape(x) k = Gather(n, z) v, i = TopK<axis = 0>(x, k) y = Identity(v)"), z=zero),
            "each column is sorted over the rows",
        ),
        (
            "previous-row",
            _over_rows(
                ("h = Slice(x, s, e, a) f = Slice(x, z, o, a) y = Concat<axis = 0>(f, h)"),
                s=zero,
                e=np.array([-1], np.int64),
                a=zero,
                z=zero,
                o=np.array([1], np.int64),
            ),
            "each row is the one before it",
        ),
        (
            "position-added",
            _over_rows(
                (
                    "n = Shape(x) k = Gather(n, z0) r = Range(i0, k, i1) f = Cast<to = 1>(r) u = Unsqueeze(f, "
                    "one) y = Add(x, u)"
                ),
                z0=np.array(0, np.int64),
                i0=np.array(0, np.int64),
                i1=np.array(1, np.int64),
                one=np.array([1], np.int64),
            ),
            "the position of a row counts",
        ),
        (
            "row-count-added",
            _over_rows("n = Shape(x)  k = Gather(n, z)  f = Cast<to = 1>(k)  y = Add(x, f)", z=zero),
            "the number of rows counts",
        ),
        (
            "batch-norm-of-batch",
            _over_rows(
                (
                    "m = ReduceMean<axes = [0]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes = [0]>(q) e "
                    "= Add(v, eps) s = Sqrt(e) y = Div(d, s)"
                ),
                eps=np.array(1e-5, np.float32),
            ),
            "statistics of the batch",
        ),
        ("dynamic-int8", _dynamic_int8, "one quantization scale for the whole batch"),
        (
            "matmul-with-itself",
            _over_rows("t = Transpose<perm = [1, 0]>(x)  y = MatMul(x, t)", outputs="float[N, N] y"),
            "the output's second axis is the number of rows",
        ),
        (
            "sum-of-rows",
            _over_rows("y = ReduceSum(x, a)", outputs="float[1, 3] y", a=zero),
            "one row of output for any number of rows",
        ),
        (
            "flattened-rows",
            _over_rows("y = Reshape(x, s)", outputs="float[M] y", s=np.array([-1], np.int64)),
            "three numbers of output for one row",
        ),
        (
            "doubled-rows",
            _over_rows("y = Concat<axis = 0>(x, x)", outputs="float[M, 3] y"),
            "two rows of output for one row",
        ),
        (
            "filtered-rows",
            _over_rows(
                ("s = ReduceSum<keepdims = 0>(x, one) b = Greater(s, z) y = Compress<axis = 0>(x, b)"),
                outputs="float[M, 3] y",
                one=np.array([1], np.int64),
                z=np.array(0, np.float32),
            ),
            "the number of output rows depends on the values",
        ),
        (
            "columns-in-use",
            _over_rows(
                "m = ReduceMax<axes = [0], keepdims = 0>(x) b = Greater(m, z) y = Compress<axis = 1>(x, b)",
                outputs="float[N, M] y",
                z=np.array(0, np.float32),
            ),
            "the second axis of the output depends on the whole batch",
        ),
        ("scan-over-rows", _scan, "a state runs over the rows"),
        ("nonzero", _over_rows("y = NonZero(x)", outputs="int64[2, M] y"), "indices of the whole batch"),
        (
            "unique-of-batch",
            _over_rows(
                ("f = Flatten<axis = 0>(x) q = Squeeze(f, zr) y, i, v, c = Unique<sorted = 1>(q)"),
                outputs="float[M] y",
                zr=zero,
            ),
            "the values of the whole batch",
        ),
    ]
    # Several of them give another number of rows, or only one: a request is run whole and alone.
    return [row(name, make, x3, why=why, independent=False, row_counts=(1, 2, 7)) for name, make, why in mixing]


GRAPHS: tuple[ZooModel, ...] = tuple(_mixes_rows())
