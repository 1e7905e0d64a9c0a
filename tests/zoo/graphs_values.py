"""Zoo graphs of values that need care: text, missing values, infinities, quantized weights."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .model import ZooModel
from .onnx_graph import floats, graph, of_dtype, row, weight


def _strings(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    words = np.array(["", "a", "Grüße", "two words", '"quoted", comma', "new\nline", "日本", "x" * 300], object)
    return {"s": words[random.integers(0, len(words), (rows, 2))]}


def _tokens(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    length = int(random.integers(2, 9))
    lengths = random.integers(1, length + 1, rows)
    return {
        "ids": random.integers(0, 20, (rows, length)),
        "mask": (np.arange(length) < lengths[:, None]).astype(np.int64),
    }


def _with_nan(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    x = random.standard_normal((rows, 3)).astype(np.float32)
    x[random.random((rows, 3)) < 0.3] = np.nan
    return {"x": x}


def _string_labels() -> onnx.ModelProto:
    words: Any = [b"cat", "Hündchen".encode(), b'no, "bird"']
    made = helper.make_graph(
        [
            helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
            helper.make_node("Gather", ["labels", "i"], ["label"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, ["N"])],
        [helper.make_tensor("labels", TensorProto.STRING, [3], words)],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _int4_weights() -> onnx.ModelProto:
    nodes = [
        helper.make_node("DequantizeLinear", ["w4", "scale"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    values = np.random.default_rng(3).integers(-8, 8, (4, 2)).reshape(-1).tolist()
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [
            helper.make_tensor("w4", TensorProto.INT4, [4, 2], values),
            numpy_helper.from_array(np.array(0.1, np.float32), "scale"),
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _static_int8() -> onnx.ModelProto:
    return graph(
        """g (float[N, 3] x) => (float[N, 2] y) {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
            wd = DequantizeLinear(w, ws, wz)  y = MatMul(d, wd)
        }""",
        s=np.array(0.05, np.float32),
        z=np.array(0, np.int8),
        w=np.random.default_rng(3).integers(-100, 100, (3, 2)).astype(np.int8),
        ws=np.array(0.01, np.float32),
        wz=np.array(0, np.int8),
    )


GRAPHS: tuple[ZooModel, ...] = (
    row(
        "strings",
        lambda: graph("g (string[N, 2] s) => (string[N, 2] t) { t = Identity(s) }"),
        _strings,
        why="strings with quotes, line breaks and Unicode",
    ),
    row("string-labels", _string_labels, floats(x=(3,)), why="the output is words"),
    row(
        "embedding",
        lambda: graph("g (int64[N, 4] ids) => (float[N, 4, 2] y) { y = Gather(table, ids) }", table=weight(10, 2)),
        of_dtype(np.int64, 0, 10, (4,), "ids"),
        why="integers must stay inside the table",
    ),
    row(
        "one-hot",
        lambda: graph(
            "g (int64[N] c) => (float[N, 5] y) { y = OneHot(c, depth, values) }",
            depth=np.array(5, np.int64),
            values=np.array([0, 1], np.float32),
        ),
        lambda random, rows: {"c": random.integers(0, 5, rows)},
        why="integers without a second axis",
    ),
    row(
        "token-mask",
        lambda: graph(
            "g (int64[N, L] ids, int64[N, L] mask) => (float[N, 2] y) { e = Gather(table, ids) f = "
            "Cast<to = 1>(mask) u = Unsqueeze(f, two) m = Mul(e, u) s = ReduceSum<keepdims = 0>(m, one) "
            "c = ReduceSum<keepdims = 1>(f, one) d = Max(c, eps) y = Div(s, d) }",
            table=weight(20, 2),
            one=np.array([1], np.int64),
            two=np.array([2], np.int64),
            eps=np.array(1, np.float32),
        ),
        _tokens,
        why="lengths differ between requests",
    ),
    row(
        "nan-outputs",
        lambda: graph("g (float[N, 3] x) => (float[N, 3] y) { y = Log(x) }"),
        floats(x=(3,)),
        why="the logarithm of a negative number is NaN",
    ),
    row(
        "infinite-outputs",
        lambda: graph("g (float[N, 3] x) => (float[N, 3] y) { z = Sub(x, x) y = Div(x, z) }"),
        floats(x=(3,)),
        why="a division by zero is infinite",
    ),
    row(
        "missing-values",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 3] y) { n = IsNaN(x) y = Where(n, d, x) }", d=np.array(-1, np.float32)
        ),
        _with_nan,
        why="NaN means missing, and the model replaces it",
    ),
    row(
        "float16-weights",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 2] y) { w32 = Cast<to = 1>(w) y = MatMul(x, w32) }",
            w=weight(3, 2).astype(np.float16),
        ),
        floats(x=(3,)),
        why="weights are stored in half precision",
    ),
    row(
        "static-int8",
        _static_int8,
        floats(x=(3,)),
        why="a quantized graph with fixed scales: rows stay independent",
        atol=1e-2,
    ),
    row(
        "one-text",
        lambda: graph("g (string[N, 1] s) => (string[N, 1] t) { t = Identity(s) }"),
        lambda random, rows: {"s": _strings(random, rows)["s"][:, :1]},
        why="one text a row: CSV and plain text carry it",
    ),
    row(
        "int4-weights",
        _int4_weights,
        floats(x=(4,)),
        why="weights of four bits",
    ),
    row(
        "bfloat16-weights",
        lambda: graph(
            "g (float[N, 3] x) => (float[N, 2] y) { w32 = Cast<to = 1>(w)  y = MatMul(x, w32) }",
            w=weight(3, 2).astype(ml_dtypes.bfloat16),
        ),
        floats(x=(3,)),
        why="weights are stored as bfloat16",
    ),
    row(
        "float16-arithmetic",
        lambda: graph(
            "g (float16[N, 3] x) => (float16[N, 2] y) { y = MatMul(x, w) }", w=weight(3, 2).astype(np.float16)
        ),
        lambda random, rows: {"x": random.standard_normal((rows, 3)).astype(np.float16)},
        why="half precision all the way",
        rtol=2e-3,
        atol=2e-3,
    ),
    row(
        "uint8-image",
        lambda: graph(
            "g (uint8[N, 4, 4, 3] x) => (float[N, 3] y) { f = Cast<to = 1>(x)  s = Div(f, top)  "
            "y = ReduceMean<axes = [1, 2], keepdims = 0>(s) }",
            top=np.array(255, np.float32),
        ),
        of_dtype(np.uint8, 0, 256, (4, 4, 3)),
        why="pixels as bytes, channels last",
    ),
    row(
        "words-to-numbers",
        lambda: graph(
            "g (string[N, 2] s) => (int64[N, 2] y) { y = ai.onnx.ml.LabelEncoder<keys_strings = "
            '["a", "two words"], values_int64s = [1, 2], default_int64 = -1>(s) }',
            domains='"ai.onnx.ml" : 2',
        ),
        _strings,
        why="strings in, integers out",
        decidable=False,
    ),
    row(
        "counted-tokens",
        lambda: graph(
            'g (int64[N, 6] ids) => (float[N, 3] y) { y = TfIdfVectorizer<mode = "TF", min_gram_length = 1, '
            "max_gram_length = 1, max_skip_count = 0, ngram_counts = [0], ngram_indexes = [0, 1, 2], "
            "pool_int64s = [1, 2, 3]>(ids) }"
        ),
        of_dtype(np.int64, 0, 5, (6,), "ids"),
        why="counts of integers",
    ),
    row(
        "double-arithmetic",
        lambda: graph("g (double[N, 3] x) => (double[N, 3] y) { y = Exp(x) }"),
        lambda random, rows: {"x": random.standard_normal((rows, 3))},
        why="all 64 bits of a float64 count",
        rtol=1e-12,
        atol=0,
    ),
    row(
        "integer-matmul",
        lambda: graph(
            "g (uint8[N, 3] x) => (int32[N, 2] y) { y = MatMulInteger(x, w) }",
            w=np.random.default_rng(3).integers(-100, 100, (3, 2)).astype(np.int8),
        ),
        of_dtype(np.uint8, 0, 256, (3,)),
        why="integers all the way",
        rtol=0,
        atol=0,
    ),
)
