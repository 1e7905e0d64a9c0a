"""Small ONNX graphs for tests of one decision each. ``tests/zoo`` has the graphs that are served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.zoo.onnx_graph import graph as from_text

FLOAT, FLOAT16, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64

Value = tuple[str, int, Sequence[int | str | None]]
Build = Callable[[], onnx.ModelProto]

RANDOM = np.random.default_rng(0)
W44 = RANDOM.standard_normal((4, 4)).astype(np.float32)
W43 = RANDOM.standard_normal((4, 3)).astype(np.float32)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    constants: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """A checked model of opset 17."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        initializers,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model)
    return model


def save(build: Build, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(build(), str(path))
    return path


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """``node("MatMul", "x w", "y")``."""
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


ROWS: list[Value] = [("x", FLOAT, ["batch", 4])]
OUT4: list[Value] = [("y", FLOAT, ["batch", 4])]


def _of(text: str, **constants: Any) -> onnx.ModelProto:
    """A model from the text of its inputs, outputs and nodes."""
    arrays = {key: np.asarray(one) for key, one in constants.items()}
    return from_text(f"g {text}", ir=9, opset=17, domains='"ai.onnx.ml" : 3', **arrays)


def perceptron() -> onnx.ModelProto:
    body = "h = MatMul(x, w) t = Tanh(h) y = MatMul(t, v)"
    return _of(f"(float[batch, 4] x) => (float[batch, 3] y) {{ {body} }}", w=W44, v=W43)


def classifier() -> onnx.ModelProto:
    """A label and its probabilities, by row."""
    body = "h = MatMul(x, w) p = Softmax<axis = 1>(h) label = ArgMax<axis = 1, keepdims = 0>(p)"
    return _of(f"(float[batch, 4] x) => (int64[batch] label, float[batch, 3] p) {{ {body} }}", w=W43)


def embedding() -> onnx.ModelProto:
    """Token ids of a vocabulary of 50, and a mask, to the mean of the vectors."""
    return _of(
        """(int64[batch, seq] input_ids, int64[batch, seq] attention_mask) => (float[batch, 8] y) {
            e = Gather(table, input_ids)  m = Cast<to = 1>(attention_mask)  m3 = Unsqueeze(m, two)  em = Mul(e, m3)
            s = ReduceSum<keepdims = 0>(em, one)  n = ReduceSum<keepdims = 1>(m, one)  y = Div(s, n)
        }""",
        table=RANDOM.standard_normal((50, 8)).astype(np.float32),
        one=np.array([1]),
        two=np.array([2]),
    )


def softmax_over_rows() -> onnx.ModelProto:
    return _of("(float[batch, 4] x) => (float[batch, 4] y) { y = Softmax<axis = 0>(x) }")


def different_from_twenty_rows() -> onnx.ModelProto:
    """Each row, times two in batches of twenty rows and more."""
    body = "s = Shape<end = 1>(x) d = Div(s, twenty) m = Min(d, one) f = Add(m, one) n = Cast<to = 1>(f) y = Mul(x, n)"
    constants = {"twenty": np.array([20]), "one": np.array([1])}
    return _of(f"(float[batch, 4] x) => (float[batch, 4] y) {{ {body} }}", **constants)


def at_most_two_rows() -> onnx.ModelProto:
    """Each row as it is; the model refuses three rows and more."""
    body = "s = Shape<end = 1>(x) last = Sub(s, one) n = Gather(table, last) y = Mul(x, n)"
    constants = {"table": np.ones(2, np.float32), "one": np.array([1])}
    return _of(f"(float[batch, 4] x) => (float[batch, 4] y) {{ {body} }}", **constants)


def with_temperature() -> onnx.ModelProto:
    """Rows, and a scalar beside them."""
    return _of("(float[batch, 4] x, float temperature) => (float[batch, 4] y) { y = Div(x, temperature) }")


def scalars() -> onnx.ModelProto:
    return _of("(float a, float b) => (float y) { y = Add(a, b) }")


def no_inputs() -> onnx.ModelProto:
    return _of("() => (float[3] y) { y = Identity(c) }", c=np.arange(3, dtype=np.float32))


def noise() -> onnx.ModelProto:
    """Other answers at every run."""
    return _of("(float[batch, 4] x) => (float[batch, 4] y) { r = RandomNormalLike(x) y = Add(x, r) }")


def constant() -> onnx.ModelProto:
    """The same answer for every row."""
    return _of("(float[batch, 4] x) => (float[batch, 4] y) { y = Mul(x, zero) }", zero=np.float32(0))


def fixed(rows: int) -> Build:
    return lambda: _of(f"(float[{rows}, 4] x) => (float[{rows}, 3] y) {{ y = MatMul(x, w) }}", w=W43)


def tree() -> onnx.ModelProto:
    """A regression tree over four features, for which NaN goes one way at every split."""
    return _of(
        """(float[batch, 4] x) => (float[batch, 1] y) {
            y = ai.onnx.ml.TreeEnsembleRegressor<
                n_targets = 1, nodes_treeids = [0, 0, 0], nodes_nodeids = [0, 1, 2], nodes_featureids = [1, 0, 0],
                nodes_values = [0.5, 0.0, 0.0], nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"],
                nodes_truenodeids = [1, 0, 0], nodes_falsenodeids = [2, 0, 0],
                nodes_missing_value_tracks_true = [1, 0, 0],
                target_treeids = [0, 0], target_nodeids = [1, 2], target_ids = [0, 0], target_weights = [1.0, 2.0]
            >(x)
        }"""
    )


def additive_mask() -> onnx.ModelProto:
    """Scores, and a mask that is added before a softmax: minus infinity leaves a position out."""
    inputs = "(float[batch, 4] x, float[batch, 4] attn_mask)"
    return _of(f"{inputs} => (float[batch, 4] y) {{ s = Add(x, attn_mask) y = Softmax<axis = 1>(s) }}")


def _without_shape(model: onnx.ModelProto, values: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    for value in values:
        value.type.tensor_type.ClearField("shape")
    return model


def unranked_output() -> onnx.ModelProto:
    model = perceptron()
    return _without_shape(model, model.graph.output)


def unranked_input() -> onnx.ModelProto:
    model = perceptron()
    return _without_shape(model, model.graph.input)


def normalized_in_large_batches() -> onnx.ModelProto:
    """Rows are negated where there are more than sixteen: decided by a shape."""
    return _branching("n = Shape<end = 1>(x) k = Squeeze(n) decision = Greater(k, many)", many=16)


def _branching(condition: str, **constants: Any) -> onnx.ModelProto:
    """All rows are negated where the condition holds for the batch."""
    return _of(
        f"""(float[batch, 4] x) => (float[batch, 4] y) {{
            {condition}
            y = If (decision) <
                then_branch = g1 () => (float[batch, 4] negated) {{ negated = Neg(x) }},
                else_branch = g2 () => (float[batch, 4] same) {{ same = Identity(x) }}
            >
        }}""",
        **constants,
    )


def branch_on_a_rare_value() -> onnx.ModelProto:
    """All rows are negated where any of them has a value between 17 and 17.001."""
    return _branching(
        "a = Greater(x, low) b = Less(x, high) c = And(a, b) d = Cast<to = 1>(c) m = ReduceMax<keepdims = 0>(d) "
        "decision = Cast<to = 9>(m)",
        low=np.float32(17),
        high=np.float32(17.001),
    )


def branch_on_a_width() -> onnx.ModelProto:
    """Rows are negated where they have more than three values: decided by a shape."""
    return _branching("n = Shape<start = 1>(x) k = Squeeze(n) decision = Greater(k, three)", three=3)
