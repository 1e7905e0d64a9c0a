"""Zoo graphs with unusual names, branches, loops, initializers among the inputs, or outputs that are no tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from .model import ZooModel
from .onnx_graph import floats, graph, row, weight


def _renamed(x: str, y: str) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Neg", [x], [y])],
        "g",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch size", 3])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["batch size", 3])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _old_ir() -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(weight(3, 2), "w")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 9)], ir_version=3)


def _overridable() -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Mul", ["x", "gain"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([2], np.float32), "gain")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _optional() -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Clip", ["x", "", "hi"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array(0.5, np.float32), "hi")],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _zipmap() -> onnx.ModelProto:
    made = helper.make_graph(
        [
            helper.make_node("Softmax", ["x"], ["p"], axis=1),
            helper.make_node("ZipMap", ["p"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [
            helper.make_value_info(
                "y",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
                ),
            )
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def _external(folder: Path) -> Path:
    made = graph("g (float[N, 3] x) => (float[N, 400] y) { y = MatMul(x, w) }", w=weight(3, 400))
    path = folder / "model.onnx"
    onnx.save(made, path, save_as_external_data=True, location="weights of the model.bin", size_threshold=0)
    return path


def _optional_type() -> onnx.ModelProto:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N", 3])
    made = helper.make_graph(
        [helper.make_node("OptionalGetElement", ["x"], ["y"])],
        "g",
        [helper.make_value_info("x", helper.make_optional_type_proto(tensor))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


GRAPHS: tuple[ZooModel, ...] = (
    row(
        "two-outputs",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 3] p, int64[N] label) { p = Softmax<axis = 1>(x) label = "
            "ArgMax<axis = 1, keepdims = 0>(x) }"
        ),
        floats(x=(3,)),
        why="two outputs of two dtypes",
    ),
    row(
        "four-inputs",
        lambda: graph(
            "g (float[N, 1] a, int64[N, 1] b, double[N, 2] c, bool[N, 1] d) => (float[N, 1] y) { bf = "
            "Cast<to = 1>(b) cf = Cast<to = 1>(c) df = Cast<to = 1>(d) m = ReduceSum<keepdims = 1>(cf, "
            "one) s = Sum(a, bf, df, m) y = Identity(s) }",
            one=np.array([1], np.int64),
        ),
        lambda random, rows: {
            "a": random.standard_normal((rows, 1)).astype(np.float32),
            "b": random.integers(-5, 5, (rows, 1)),
            "c": random.standard_normal((rows, 2)),
            "d": random.integers(0, 2, (rows, 1)).astype(bool),
        },
        why="named columns of four dtypes",
    ),
    row(
        "unused-input",
        lambda: graph("g (float[N, 3] x, float[N, 2] unused) => (float[N, 3] y) { y = Neg(x) }"),
        floats(x=(3,), unused=(2,)),
        why="an input that nothing reads",
    ),
    row(
        "input-is-output",
        lambda: graph("g (float[N, 3] x) => (float[N, 3] y) { y = Identity(x) }"),
        floats(x=(3,)),
        why="the answer is the question",
    ),
    row(
        "slashes-and-spaces",
        lambda: _renamed("/model/in put:0", "/model/Ausgänge/日本:0"),
        lambda random, rows: {"/model/in put:0": random.standard_normal((rows, 3)).astype(np.float32)},
        why="names with slashes, a space, a colon and Unicode",
    ),
    row("old-ir", _old_ir, floats(x=(3,)), why="IR 3: the weights stand among the inputs"),
    row("overridable-initializer", _overridable, floats(x=(3,)), why="an initializer that a caller may override"),
    row("optional-input", _optional, floats(x=(3,)), why="an optional input, left out"),
    row(
        "sequence-output",
        lambda: graph(
            "g (float[N, 4] x) => (seq(float[N, 2]) y) { y = SplitToSequence<axis = 1>(x, two) }",
            two=np.array(2, np.int64),
        ),
        floats(x=(4,)),
        load_error="broken_artifact",
        why="a sequence is no tensor",
    ),
    row(
        "zipmap",
        _zipmap,
        floats(x=(3,)),
        load_error="broken_artifact",
        why="a list of dictionaries is no tensor: the remedy is zipmap=False",
        remedy="zipmap=False",
    ),
    row(
        "opset-11",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 2] y) { m = MatMul(x, w) a = Clip(m, lo, hi) y = Softmax<axis = 1>(a) }",
            opset=11,
            ir=6,
            w=weight(3, 2),
            lo=np.array(-1, np.float32),
            hi=np.array(1, np.float32),
        ),
        floats(x=(3,)),
        why="an older opset",
    ),
    replace(
        row("external-data", lambda: graph("g () => () {}"), floats(x=(3,)), why="the weights lie in a second file"),
        build=_external,
    ),
    row(
        "optional-type",
        _optional_type,
        floats(x=(3,)),
        load_error="broken_artifact",
        why="an input of the type optional(tensor)",
    ),
    row(
        "sequence-input",
        lambda: graph(
            "g (seq(float[N, 2]) x) => (float[M, 2] y) { y = ConcatFromSequence<axis = 0>(x) }",
        ),
        floats(x=(2,)),
        load_error="broken_artifact",
        why="an input that is a sequence",
    ),
    row(
        "same-tensor-twice",
        lambda: graph("g (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) { y = Neg(x)  z = Identity(y) }"),
        floats(x=(3,)),
        why="two outputs share their memory",
    ),
    row(
        "dropout-and-batch-norm",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 3] y) { b = BatchNormalization(x, s, o, m, v)  y = Dropout(b) }",
            s=weight(3),
            o=weight(3, seed=8),
            m=weight(3, seed=9),
            v=np.abs(weight(3, seed=10)) + 1,
        ),
        floats(x=(3,)),
        why="training layers in their inference form: rows stay independent",
    ),
)
