"""Small ONNX graphs whose rows are independent, or are not, or whose signature is unusual. Built without downloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, DOUBLE, INT64, INT32 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32
BOOL, UINT8, STRING, FLOAT16 = TensorProto.BOOL, TensorProto.UINT8, TensorProto.STRING, TensorProto.FLOAT16

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
OUT3: list[Value] = [("y", FLOAT, ["batch", 3])]
OUT4: list[Value] = [("y", FLOAT, ["batch", 4])]


def perceptron() -> onnx.ModelProto:
    nodes = [node("MatMul", "x w", "h"), node("Tanh", "h", "t"), node("MatMul", "t v", "y")]
    return graph(nodes, ROWS, OUT3, {"w": W44, "v": W43})


def classifier() -> onnx.ModelProto:
    """A label and its probabilities, by row."""
    nodes = [
        node("MatMul", "x w", "h"),
        node("Softmax", "h", "p", axis=1),
        node("ArgMax", "p", "label", axis=1, keepdims=0),
    ]
    return graph(nodes, ROWS, [("label", INT64, ["batch"]), ("p", FLOAT, ["batch", 3])], {"w": W43})


def embedding() -> onnx.ModelProto:
    """Token ids of a vocabulary of 50, and a mask, to the mean of the vectors."""
    table = RANDOM.standard_normal((50, 8)).astype(np.float32)
    nodes = [
        node("Gather", "table input_ids", "e"),
        node("Cast", "attention_mask", "m", to=FLOAT),
        node("Unsqueeze", "m two", "m3"),
        node("Mul", "e m3", "em"),
        node("ReduceSum", "em one", "s", keepdims=0),
        node("ReduceSum", "m one", "n", keepdims=1),
        node("Div", "s n", "y"),
    ]
    inputs: list[Value] = [("input_ids", INT64, ["batch", "seq"]), ("attention_mask", INT64, ["batch", "seq"])]
    return graph(
        nodes,
        inputs,
        [("y", FLOAT, ["batch", 8])],
        {"table": table, "one": np.array([1], np.int64), "two": np.array([2], np.int64)},
    )


def convolution() -> onnx.ModelProto:
    """Pictures of any size, of at least 16 by 16."""
    kernel = RANDOM.standard_normal((2, 3, 16, 16)).astype(np.float32) / 16
    nodes = [node("Conv", "pixels k", "c"), node("GlobalAveragePool", "c", "y")]
    return graph(nodes, [("pixels", FLOAT, ["batch", 3, "h", "w"])], [("y", FLOAT, ["batch", 2, 1, 1])], {"k": kernel})


def exporter_names() -> onnx.ModelProto:
    """Two inputs whose first axes have the names that an exporter makes up for each of them."""
    inputs: list[Value] = [("a", FLOAT, ["a_dynamic_axes_1", 4]), ("b", FLOAT, ["b_dynamic_axes_1", 4])]
    return graph([node("Add", "a b", "y")], inputs, [("y", FLOAT, ["y_dynamic_axes_1", 4])])


def unnamed_axes() -> onnx.ModelProto:
    inputs: list[Value] = [("a", FLOAT, [None, 4]), ("b", FLOAT, [None, 4])]
    return graph([node("Mul", "a b", "y")], inputs, [("y", FLOAT, [None, 4])])


def texts() -> onnx.ModelProto:
    encoder = node("LabelEncoder", "x", "y", keys_strings=["1", "2", "3"], values_int64s=[10, 20, 30], default_int64=-1)
    encoder.domain = "ai.onnx.ml"
    return graph([encoder], [("x", STRING, ["batch", 1])], [("y", INT64, ["batch", 1])])


def pixels_uint8() -> onnx.ModelProto:
    nodes = [node("Cast", "x", "f", to=FLOAT), node("ReduceMean", "f", "y", axes=[1, 2], keepdims=0)]
    return graph(nodes, [("x", UINT8, ["batch", 6, 6])], [("y", FLOAT, ["batch"])])


def recurrent_over_time() -> onnx.ModelProto:
    """An LSTM over [time, features]: its first axis is the time of one sequence."""
    hidden = 3
    w = RANDOM.standard_normal((1, 4 * hidden, 4)).astype(np.float32)
    r = RANDOM.standard_normal((1, 4 * hidden, hidden)).astype(np.float32)
    nodes = [
        node("Unsqueeze", "x one", "x3"),
        node("LSTM", "x3 w r", "all", hidden_size=hidden),
        node("Reshape", "all shape", "y"),
    ]
    return graph(
        nodes,
        [("x", FLOAT, ["time", 4])],
        [("y", FLOAT, ["time", hidden])],
        {"w": w, "r": r, "one": np.array([1], np.int64), "shape": np.array([-1, hidden], np.int64)},
    )


def softmax_over_rows() -> onnx.ModelProto:
    return graph([node("Softmax", "x", "y", axis=0)], ROWS, OUT4)


def running_sum() -> onnx.ModelProto:
    return graph([node("CumSum", "x zero", "y")], ROWS, OUT4, {"zero": np.array(0, np.int64)})


def centred() -> onnx.ModelProto:
    """Each row less the mean of all rows: batch normalization in training mode."""
    return graph([node("ReduceMean", "x", "m", axes=[0], keepdims=1), node("Sub", "x m", "y")], ROWS, OUT4)


def largest_of_all() -> onnx.ModelProto:
    """Each row over the largest value of all rows: what one scale for a whole batch does."""
    nodes = [node("Abs", "x", "a"), node("ReduceMax", "a", "m", keepdims=0), node("Div", "x m", "y")]
    return graph(nodes, ROWS, OUT4)


def dynamic_quantization() -> onnx.ModelProto:
    """A matrix product with one scale for the whole batch, as dynamic int8 quantization has."""
    nodes = [
        node("DynamicQuantizeLinear", "x", "q s z"),
        node("MatMulInteger", "q w z wz", "i"),
        node("Cast", "i", "f", to=FLOAT),
        node("Mul", "s ws", "sw"),
        node("Mul", "f sw", "y"),
    ]
    weights = RANDOM.integers(-127, 128, (4, 3)).astype(np.int8)
    return graph(nodes, ROWS, OUT3, {"w": weights, "wz": np.array(0, np.int8), "ws": np.array(0.01, np.float32)})


def count_of_rows() -> onnx.ModelProto:
    """Each row times the number of rows."""
    nodes = [
        node("Shape", "x", "s", end=1),
        node("Cast", "s", "n", to=FLOAT),
        node("Mul", "x n", "y"),
    ]
    return graph(nodes, ROWS, OUT4)


def different_from_twenty_rows() -> onnx.ModelProto:
    """Each row, times two in batches of twenty rows and more."""
    nodes = [
        node("Shape", "x", "s", end=1),
        node("Div", "s twenty", "d"),
        node("Min", "d one", "m"),
        node("Add", "m one", "f"),
        node("Cast", "f", "n", to=FLOAT),
        node("Mul", "x n", "y"),
    ]
    return graph(nodes, ROWS, OUT4, {"twenty": np.array([20], np.int64), "one": np.array([1], np.int64)})


def at_most_two_rows() -> onnx.ModelProto:
    """Each row as it is; the model refuses three rows and more."""
    nodes = [
        node("Shape", "x", "s", end=1),
        node("Sub", "s one", "last"),
        node("Gather", "table last", "n"),
        node("Mul", "x n", "y"),
    ]
    return graph(nodes, ROWS, OUT4, {"table": np.ones(2, np.float32), "one": np.array([1], np.int64)})


def neighbour_graph() -> onnx.ModelProto:
    """Nodes and edges: two free axes of their own, and the sum of what points at each node."""
    nodes = [
        node("Gather", "edges zero", "source", axis=1),
        node("Gather", "edges one", "target", axis=1),
        node("Gather", "x source", "sent", axis=0),
        node("Shape", "x", "shape"),
        node("ConstantOfShape", "shape", "empty", value=numpy_helper.from_array(np.zeros(1, np.float32))),
        node("Unsqueeze", "target last", "t"),
        node("Shape", "sent", "ss"),
        node("Expand", "t ss", "index"),
        node("ScatterElements", "empty index sent", "y", axis=0, reduction="add"),
    ]
    return graph(
        nodes,
        [("x", FLOAT, ["num_nodes", 2]), ("edges", INT64, ["num_edges", 2])],
        [("y", FLOAT, ["num_nodes", 2])],
        {"zero": np.array(0, np.int64), "one": np.array(1, np.int64), "last": np.array([1], np.int64)},
    )


def set_against_set() -> onnx.ModelProto:
    """Queries [N, 4] and candidates [M, 4]: all pairs of scores [N, M]."""
    nodes = [node("Transpose", "candidates", "t", perm=[1, 0]), node("MatMul", "queries t", "y")]
    inputs: list[Value] = [("queries", FLOAT, ["N", 4]), ("candidates", FLOAT, ["M", 4])]
    return graph(nodes, inputs, [("y", FLOAT, ["N", "M"])])


def unnamed_sets() -> onnx.ModelProto:
    nodes = [node("Transpose", "candidates", "t", perm=[1, 0]), node("MatMul", "queries t", "y")]
    inputs: list[Value] = [("queries", FLOAT, [None, 4]), ("candidates", FLOAT, [None, 4])]
    return graph(nodes, inputs, [("y", FLOAT, [None, None])])


def positives() -> onnx.ModelProto:
    """The rows whose first value is above 0: another number of rows than there was."""
    nodes = [
        node("Gather", "x zero", "first", axis=1),
        node("Greater", "first limit", "keep"),
        node("Compress", "x keep", "y", axis=0),
    ]
    return graph(
        nodes, ROWS, [("y", FLOAT, ["found", 4])], {"zero": np.array(0, np.int64), "limit": np.array(0, np.float32)}
    )


def columns_in_use() -> onnx.ModelProto:
    """The columns in which any row is above 1: the second axis depends on the data and on the batch."""
    nodes = [
        node("ReduceMax", "x", "m", axes=[0], keepdims=0),
        node("Greater", "m limit", "keep"),
        node("Compress", "x keep", "y", axis=1),
    ]
    return graph(nodes, ROWS, [("y", FLOAT, ["batch", "found"])], {"limit": np.array(1, np.float32)})


def with_temperature() -> onnx.ModelProto:
    """Rows, and a scalar beside them."""
    inputs: list[Value] = [("x", FLOAT, ["batch", 4]), ("temperature", FLOAT, [])]
    return graph([node("Div", "x temperature", "y")], inputs, OUT4)


def scalar_first() -> onnx.ModelProto:
    inputs: list[Value] = [("rate", INT64, []), ("x", FLOAT, ["batch", 4])]
    return graph([node("Cast", "rate", "r", to=FLOAT), node("Mul", "x r", "y")], inputs, OUT4)


def scalars() -> onnx.ModelProto:
    return graph([node("Add", "a b", "y")], [("a", FLOAT, []), ("b", FLOAT, [])], [("y", FLOAT, [])])


def no_inputs() -> onnx.ModelProto:
    return graph([node("Identity", "c", "y")], [], [("y", FLOAT, [3])], {"c": np.arange(3, dtype=np.float32)})


def noise() -> onnx.ModelProto:
    """Other answers at every run."""
    return graph([node("RandomNormalLike", "x", "r"), node("Add", "x r", "y")], ROWS, OUT4)


def constant() -> onnx.ModelProto:
    """The same answer for every row."""
    return graph([node("Mul", "x zero", "y")], ROWS, OUT4, {"zero": np.array(0, np.float32)})


def fixed(rows: int) -> Build:
    def build() -> onnx.ModelProto:
        return graph([node("MatMul", "x w", "y")], [("x", FLOAT, [rows, 4])], [("y", FLOAT, [rows, 3])], {"w": W43})

    return build


def fixed_dependent() -> onnx.ModelProto:
    return graph([node("Softmax", "x", "y", axis=0)], [("x", FLOAT, [3, 4])], [("y", FLOAT, [3, 4])])


def long_rows() -> onnx.ModelProto:
    """Rows of at least 240,000 positions: the kernel of its convolution is as long as that."""
    kernel = np.ones((1, 1, 240_000), np.float32) / 240_000
    nodes = [node("Unsqueeze", "audio one", "a"), node("Conv", "a k", "c"), node("ReduceMean", "c", "y", axes=[1, 2])]
    for one in nodes[2:]:
        one.attribute.append(helper.make_attribute("keepdims", 0))
    return graph(
        nodes,
        [("audio", FLOAT, ["batch", "samples"])],
        [("y", FLOAT, ["batch"])],
        {"k": kernel, "one": np.array([1], np.int64)},
    )


def tree() -> onnx.ModelProto:
    """A regression tree over four features, for which NaN goes one way at every split."""
    made = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=[0] * 3,
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[1, 0, 0],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        nodes_missing_value_tracks_true=[1, 0, 0],
        target_treeids=[0, 0],
        target_nodeids=[1, 2],
        target_ids=[0, 0],
        target_weights=[1.0, 2.0],
    )
    return graph([made], ROWS, [("y", FLOAT, ["batch", 1])])


def additive_mask() -> onnx.ModelProto:
    """Scores, and a mask that is added before a softmax: minus infinity leaves a position out."""
    inputs: list[Value] = [("x", FLOAT, ["batch", 4]), ("attn_mask", FLOAT, ["batch", 4])]
    return graph([node("Add", "x attn_mask", "s"), node("Softmax", "s", "y", axis=1)], inputs, OUT4)


INDEPENDENT: dict[str, Build] = {
    one.__name__: one
    for one in (
        perceptron,
        classifier,
        embedding,
        convolution,
        exporter_names,
        unnamed_axes,
        texts,
        pixels_uint8,
        long_rows,
        tree,
        additive_mask,
    )
}
DEPENDENT: dict[str, Build] = {
    one.__name__: one
    for one in (
        recurrent_over_time,
        softmax_over_rows,
        running_sum,
        centred,
        largest_of_all,
        dynamic_quantization,
        count_of_rows,
        neighbour_graph,
        set_against_set,
        unnamed_sets,
        positives,
        columns_in_use,
        with_temperature,
        scalar_first,
        scalars,
        no_inputs,
        noise,
        constant,
        fixed_dependent,
    )
}


def _unchecked(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    weights: bool = False,
    ir: int = 8,
    opset: int = 18,
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(W43, "w")] if weights else []
    made = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=opsets, ir_version=ir)


def _tensor(name: str, kind: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _unranked(name: str) -> onnx.ValueInfoProto:
    value = onnx.ValueInfoProto()
    value.name = name
    value.type.tensor_type.elem_type = FLOAT
    return value


X, Y3, Y4 = _tensor("x", FLOAT, ["b", 4]), _tensor("y", FLOAT, ["b", 3]), _tensor("y", FLOAT, ["b", 4])


def weights_among_inputs() -> onnx.ModelProto:
    """As files before IR version 4 have them."""
    inputs = [X, _tensor("w", FLOAT, [4, 3])]
    return _unchecked([node("MatMul", "x w", "y")], inputs, [Y3], weights=True, ir=3, opset=9)


def overridable_weights() -> onnx.ModelProto:
    inputs = [X, _tensor("w", FLOAT, [4, 3])]
    return _unchecked([node("MatMul", "x w", "y")], inputs, [Y3], weights=True)


def unranked_output() -> onnx.ModelProto:
    return _unchecked([node("Neg", "x", "y")], [X], [_unranked("y")])


def unranked_input() -> onnx.ModelProto:
    return _unchecked([node("Neg", "x", "y")], [_unranked("x")], [_unranked("y")])


def negative_sizes() -> onnx.ModelProto:
    """-1 written as a size."""
    model = _unchecked([node("Neg", "x", "y")], [X], [Y4])
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    return model


def half_floats() -> onnx.ModelProto:
    return _unchecked([node("Neg", "x", "y")], [_tensor("x", FLOAT16, ["b", 4])], [_tensor("y", FLOAT16, ["b", 4])])


def booleans() -> onnx.ModelProto:
    return _unchecked([node("Not", "x", "y")], [_tensor("x", BOOL, ["b", 4])], [_tensor("y", BOOL, ["b", 4])])


def flat_rows() -> onnx.ModelProto:
    return _unchecked([node("Neg", "x", "y")], [_tensor("x", FLOAT, ["n"])], [_tensor("y", FLOAT, ["n"])])


def sequence_output() -> onnx.ModelProto:
    output = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    return _unchecked([node("SplitToSequence", "x", "y", axis=0)], [X], [output])


def zipmap() -> onnx.ModelProto:
    """Probabilities as a list of dictionaries, as scikit-learn's converter writes them by default."""
    output = onnx.ValueInfoProto()
    output.name = "y"
    pair = output.type.sequence_type.elem_type.map_type
    pair.key_type = INT64
    pair.value_type.tensor_type.elem_type = FLOAT
    made = node("ZipMap", "p", "y", classlabels_int64s=[0, 1, 2])
    made.domain = "ai.onnx.ml"
    return _unchecked([node("MatMul", "x w", "p"), made], [X], [output], weights=True)


def optional_input() -> onnx.ModelProto:
    value = onnx.ValueInfoProto()
    value.name = "x"
    inner = value.type.optional_type.elem_type.tensor_type
    inner.elem_type = FLOAT
    inner.shape.dim.add().dim_value = 3
    nodes = [node("OptionalHasElement", "x", "h"), node("Cast", "h", "y", to=FLOAT)]
    return _unchecked(nodes, [value], [_tensor("y", FLOAT, [])])


SERVED: dict[str, Build] = {
    one.__name__: one
    for one in (
        weights_among_inputs,
        overridable_weights,
        unranked_output,
        negative_sizes,
        half_floats,
        booleans,
        flat_rows,
    )
}
REFUSED: dict[str, tuple[Build, str]] = {
    "unranked_input": (unranked_input, "update_model_dims"),
    "sequence_output": (sequence_output, "ConcatFromSequence"),
    "zipmap": (zipmap, "zipmap=False"),
    "optional_input": (optional_input, "required"),
}
"""What is refused, and the remedy that the message names."""


def recurrent_step_first() -> onnx.ModelProto:
    """A GRU over [time, batch, features], without names."""
    w = RANDOM.standard_normal((1, 9, 4)).astype(np.float32)
    r = RANDOM.standard_normal((1, 9, 3)).astype(np.float32)
    nodes = [node("GRU", "x w r", "all", hidden_size=3), node("Squeeze", "all one", "y")]
    inputs: list[Value] = [("x", FLOAT, [None, None, 4])]
    return graph(nodes, inputs, [("y", FLOAT, [None, None, 3])], {"w": w, "r": r, "one": np.array([1], np.int64)})


def attention_over_rows() -> onnx.ModelProto:
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0]),
        node("MatMul", "x t", "s"),
        node("Softmax", "s", "p", axis=1),
        node("MatMul", "p x", "y"),
    ]
    return graph(nodes, ROWS, OUT4)


def sorted_rows() -> onnx.ModelProto:
    """The rows in the order of their first value."""
    nodes = [
        node("Gather", "x zero", "first", axis=1),
        node("Shape", "first", "n"),
        node("TopK", "first n", "values order"),
        node("Gather", "x order", "y", axis=0),
    ]
    return graph(nodes, ROWS, OUT4, {"zero": np.array(0, np.int64)})


def difference_to_the_row_before() -> onnx.ModelProto:
    nodes = [
        node("Slice", "x zero minus zero", "before"),
        node("Pad", "before pads", "shifted"),
        node("Sub", "x shifted", "y"),
    ]
    constants = {
        "zero": np.array([0], np.int64),
        "minus": np.array([-1], np.int64),
        "pads": np.array([1, 0, 0, 0], np.int64),
    }
    return graph(nodes, ROWS, OUT4, constants)


def integer_sum() -> onnx.ModelProto:
    inputs: list[Value] = [("x", INT64, ["batch", 4])]
    return graph([node("CumSum", "x zero", "y")], inputs, [("y", INT64, ["batch", 4])], {"zero": np.array(0, np.int64)})


def any_of_all() -> onnx.ModelProto:
    """Whether any row has the value: an or over the batch."""
    nodes = [
        node("Cast", "x", "f", to=FLOAT),
        node("ReduceMax", "f", "m", axes=[0], keepdims=1),
        node("Add", "f m", "s"),
        node("Cast", "s", "y", to=BOOL),
    ]
    return graph(nodes, [("x", BOOL, ["batch", 4])], [("y", BOOL, ["batch", 4])])


def normalized_in_large_batches() -> onnx.ModelProto:
    """Rows as they are, but less their mean where there are more than sixteen."""
    keep = helper.make_graph([node("Identity", "x", "a")], "keep", [], [_tensor("a", FLOAT, ["batch", 4])])
    centre = helper.make_graph(
        [node("ReduceMean", "x", "m", axes=[0], keepdims=1), node("Sub", "x m", "b")],
        "centre",
        [],
        [_tensor("b", FLOAT, ["batch", 4])],
    )
    nodes = [
        node("Shape", "x", "s", end=1),
        node("Squeeze", "s", "n"),
        node("Greater", "n many", "large"),
        node("If", "large", "y", then_branch=centre, else_branch=keep),
    ]
    return graph(nodes, ROWS, OUT4, {"many": np.array(16, np.int64)})


def faint_mean() -> onnx.ModelProto:
    """Each row, and a thousandth of the mean of all: no more than noise among rows of one scale."""
    nodes = [
        node("ReduceMean", "x", "m", axes=[0], keepdims=1),
        node("Mul", "m little", "l"),
        node("Add", "x l", "y"),
    ]
    return graph(nodes, ROWS, OUT4, {"little": np.array(0.001, np.float32)})


def distant_categories() -> onnx.ModelProto:
    """One of two answers, by whether a code is above 500."""
    nodes = [node("Greater", "x limit", "g"), node("Cast", "g", "y", to=INT64)]
    inputs: list[Value] = [("x", INT64, ["batch", 1])]
    return graph(nodes, inputs, [("y", INT64, ["batch", 1])], {"limit": np.array(500, np.int64)})


INDEPENDENT |= {one.__name__: one for one in (distant_categories,)}
DEPENDENT |= {
    one.__name__: one
    for one in (
        recurrent_step_first,
        attention_over_rows,
        sorted_rows,
        difference_to_the_row_before,
        integer_sum,
        any_of_all,
        normalized_in_large_batches,
        faint_mean,
    )
}


def _branching(condition: list[onnx.NodeProto], constants: Mapping[str, Any]) -> onnx.ModelProto:
    then_graph = helper.make_graph([node("Neg", "x", "a")], "then", [], [_tensor("a", FLOAT, ["batch", 4])])
    else_graph = helper.make_graph([node("Identity", "x", "b")], "else", [], [_tensor("b", FLOAT, ["batch", 4])])
    nodes = [*condition, node("If", "decision", "y", then_branch=then_graph, else_branch=else_graph)]
    return graph(nodes, ROWS, OUT4, constants)


def branch_on_a_rare_value() -> onnx.ModelProto:
    """All rows are negated where any of them has a value between 17 and 17.001."""
    nodes = [
        node("Greater", "x low", "above"),
        node("Less", "x high", "below"),
        node("And", "above below", "both"),
        node("Cast", "both", "numbers", to=FLOAT),
        node("ReduceMax", "numbers", "most", keepdims=0),
        node("Cast", "most", "decision", to=BOOL),
    ]
    return _branching(nodes, {"low": np.array(17, np.float32), "high": np.array(17.001, np.float32)})


def branch_on_a_width() -> onnx.ModelProto:
    """Rows are negated where they have more than three values: decided by a shape."""
    nodes = [
        node("Shape", "x", "s", start=1),
        node("Squeeze", "s", "n"),
        node("Greater", "n three", "decision"),
    ]
    return _branching(nodes, {"three": np.array(3, np.int64)})


INDEPENDENT |= {one.__name__: one for one in (branch_on_a_width,)}
DEPENDENT |= {one.__name__: one for one in (branch_on_a_rare_value,)}
