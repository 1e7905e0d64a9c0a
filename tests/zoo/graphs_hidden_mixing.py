"""Zoo graphs whose rows depend on each other only for some values, or only in large batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from .model import ZooModel
from .onnx_graph import floats, graph, of_dtype, row


def _branch_on(condition: str, **weights: Any) -> Callable[[], onnx.ModelProto]:
    """``y = -x`` where the condition holds for the whole batch, else ``y = x * x``."""
    return lambda: graph(
        f"""g (float[N, 3] x) => (float[N, 3] y) {{
            {condition}
            y = If (c) <
                then_branch = g1 () => (float[N, 3] negated) {{ negated = Neg(x) }},
                else_branch = g2 () => (float[N, 3] square) {{ square = Mul(x, x) }}
            >
        }}""",
        **weights,
    )


def _over(body: str, **weights: Any) -> Callable[[], onnx.ModelProto]:
    return lambda: graph(f"g (float[N, 3] x) => (float[N, 3] y) {{ {body} }}", **weights)


def _rare_token() -> onnx.ModelProto:
    return graph(
        """g (int64[N, 4] ids) => (float[N, 4] y) {
            x = Gather(table, ids)
            e = Equal(ids, rare)  f = Cast<to = 1>(e)  m = ReduceMax<keepdims = 0>(f)  c = Greater(m, half)
            y = If (c) <
                then_branch = g1 () => (float[N, 4] negated) { negated = Neg(x) },
                else_branch = g2 () => (float[N, 4] square) { square = Mul(x, x) }
            >
        }""",
        table=np.arange(1, 30_001, dtype=np.float32) / 1000,
        rare=np.array(17, np.int64),
        half=np.array(0.5, np.float32),
    )


_ZERO = np.array(0, np.int64)

_MIXING: list[tuple[str, Callable[[], onnx.ModelProto], str]] = [
    (
        "other-branch-in-large-batches",
        _branch_on("n = Shape(x)  k = Gather(n, z)  c = Greater(k, limit)", z=_ZERO, limit=np.array(4, np.int64)),
        "batches above four rows take another branch",
    ),
    (
        "other-branch-above-sixteen-rows",
        _branch_on("n = Shape(x)  k = Gather(n, z)  c = Greater(k, limit)", z=_ZERO, limit=np.array(16, np.int64)),
        "only batches above sixteen rows take another branch",
    ),
    (
        "faint-mean",
        _over("m = ReduceMean<axes = [0]>(x)  l = Mul(m, little)  y = Add(x, l)", little=np.array(0.001, np.float32)),
        "a thousandth of the mean of all rows: no more than noise",
    ),
    (
        "normalised-when-large",
        _over(
            "a = Abs(x)  m = ReduceMax<keepdims = 0>(a)  d = Max(m, ten)  t = Div(x, d)  y = Mul(t, ten)",
            ten=np.array(10, np.float32),
        ),
        "a row above 10 scales the whole batch: ordinary rows do not show it",
    ),
    (
        "missing-value-spreads",
        _over(
            "m = ReduceMean<keepdims = 0>(x)  q = Mul(m, zero)  y = Add(x, q)",
            zero=np.array(0, np.float32),
        ),
        "a NaN or an infinity in one row makes every row NaN",
    ),
    (
        "outlier-branch",
        _branch_on("a = Abs(x)  m = ReduceMax<keepdims = 0>(a)  c = Less(m, limit)", limit=np.array(50, np.float32)),
        "one row above 50 sends the whole batch through another branch",
    ),
    (
        "branch-below",
        _branch_on("m = ReduceMin<keepdims = 0>(x)  c = Greater(m, limit)", limit=np.array(-50, np.float32)),
        "one row below -50 sends the whole batch through another branch",
    ),
    (
        "zero-row-branch",
        _branch_on(
            "a = Abs(x)  s = ReduceSum<keepdims = 0>(a, one)  m = ReduceMin<keepdims = 0>(s)  c = Greater(m, zero)",
            one=np.array([1], np.int64),
            zero=np.array(0, np.float32),
        ),
        "one row of zeros sends the whole batch through another branch",
    ),
    (
        "first-row-is-special",
        _over(
            "f = Slice(x, zero, one, zero)  m = Mul(f, small)  y = Add(x, m)",
            zero=np.array([0], np.int64),
            one=np.array([1], np.int64),
            small=np.array(0.01, np.float32),
        ),
        "a hundredth of the first row is added to each row",
    ),
    (
        "last-row-is-special",
        _over(
            "l = Slice(x, minus, end, zero)  y = Sub(x, l)",
            minus=np.array([-1], np.int64),
            end=np.array([2**31], np.int64),
            zero=np.array([0], np.int64),
        ),
        "the last row is taken from each row",
    ),
]

GRAPHS: tuple[ZooModel, ...] = (
    *(row(name, make, floats(x=(3,)), why=why, independent=False, row_counts=(1, 3, 9)) for name, make, why in _MIXING),
    row(
        "rare-token-branch",
        _rare_token,
        lambda random, rows: {"ids": random.choice([7, 17, 29_000], (rows, 4))},
        why="one token of 30,000 sends the whole batch through another branch",
        independent=False,
    ),
    row(
        "text-of-the-first-row",
        lambda: graph(
            "g (string[N, 1] s) => (string[N, 1] t) { f = Slice(s, zero, one, zero)  n = Shape(s)  t = Expand(f, n) }",
            zero=np.array([0], np.int64),
            one=np.array([1], np.int64),
        ),
        lambda random, rows: {"s": random.choice(["a", "b", "c", "d"], (rows, 1)).astype(object)},
        why="each row is the text of the first",
        independent=False,
    ),
    row(
        "any-flag",
        lambda: graph(
            "g (bool[N, 3] x) => (bool[N, 3] y) { f = Cast<to = 1>(x)  m = ReduceMax<axes = [0]>(f)  "
            "b = Cast<to = 9>(m)  y = Or(x, b) }"
        ),
        of_dtype(np.bool_, 0, 2, (3,)),
        why="a flag of any row holds for all rows",
        independent=False,
    ),
    row(
        "ranks-of-integers",
        lambda: graph(
            "g (int32[N, 3] x) => (int32[N, 3] y) { m = ReduceMin<axes = [0]>(x)  y = Sub(x, m) }",
        ),
        of_dtype(np.int32, 0, 1000, (3,)),
        why="the smallest integer of the batch is taken from each row",
        independent=False,
    ),
    row(
        "branch-on-width",
        _branch_on("n = Shape<start = 1>(x)  k = Squeeze(n)  c = Greater(k, two)", two=np.array(2, np.int64)),
        floats(x=(3,)),
        why="a branch by a shape: rows stay independent",
    ),
    row(
        "distant-categories",
        lambda: graph(
            "g (int64[N, 1] x) => (int64[N, 1] y) { g = Greater(x, limit)  y = Cast<to = 7>(g) }",
            limit=np.array(500, np.int64),
        ),
        of_dtype(np.int64, 0, 1000, (1,)),
        why="one of two answers, by a code above 500",
    ),
)
