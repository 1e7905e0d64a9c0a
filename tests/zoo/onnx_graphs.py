"""ONNX graphs of the zoo, as text of onnx.parser; their right answers come from a bare session, one request a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .model import MakeInputs, Tensors, ZooModel

WEIGHTS_SEED = 7


def session_answer(path: Path, inputs: Tensors) -> dict[str, Any]:
    """What ONNX Runtime alone answers to this one request."""
    import onnxruntime

    file = path if path.is_file() else next(iter(sorted(path.rglob("*.onnx"))))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def graph(text: str, *, ir: int = 9, opset: int = 17, domains: str = "", **weights: NDArray[Any]) -> onnx.ModelProto:
    """A model from the text of its graph, with ``weights`` as initializers."""
    opsets = f'"" : {opset}' + (f", {domains}" if domains else "")
    made = onnx.parser.parse_model(f"<ir_version: {ir}, opset_import: [{opsets}]>\n{text}")
    for name, value in weights.items():
        made.graph.initializer.append(numpy_helper.from_array(value, name))
    return made


def saved(make: Callable[[], onnx.ModelProto]) -> Callable[[Path], None]:
    """A builder that writes the model of ``make``."""

    def build(path: Path) -> None:
        onnx.save(make(), path)

    return build


def weight(*shape: int, seed: int = WEIGHTS_SEED, scale: float = 0.5) -> NDArray[np.float32]:
    """Seeded float32 weights."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def floats(**shapes: tuple[int, ...]) -> MakeInputs:
    """Standard normal float32 inputs [rows, *shape] by name."""

    def make(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        return {name: random.standard_normal((rows, *shape)).astype(np.float32) for name, shape in shapes.items()}

    return make


def of_dtype(dtype: Any, low: int, high: int, shape: tuple[int, ...], name: str = "x") -> MakeInputs:
    """Integers from ``low`` to ``high`` in ``dtype``, [rows, *shape]."""

    def make(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        return {name: random.integers(low, high, (rows, *shape)).astype(dtype)}

    return make


def row(
    name: str,
    make: Callable[[], onnx.ModelProto],
    inputs: MakeInputs,
    *,
    why: str,
    independent: bool = True,
    row_counts: tuple[int, ...] = (1, 2, 5),
    load_error: str = "",
    tags: Sequence[str] = (),
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> ZooModel:
    """A zoo model from a graph."""
    return ZooModel(
        name=name,
        build=saved(make),
        inputs=inputs,
        expected=session_answer,
        independent=independent,
        row_counts=row_counts,
        load_error=load_error,
        why=why,
        tags=frozenset(tags),
        rtol=rtol,
        atol=atol,
    )


def _dtypes() -> list[ZooModel]:
    """Identity-like graphs for every dtype: values must survive every route unchanged."""
    kinds: list[tuple[str, str, Any, int, int]] = [
        ("int8", "int8", np.int8, -100, 100),
        ("int16", "int16", np.int16, -30_000, 30_000),
        ("int32", "int32", np.int32, -(2**31), 2**31),
        ("int64", "int64", np.int64, -(2**62), 2**62),
        ("uint8", "uint8", np.uint8, 0, 256),
        ("uint16", "uint16", np.uint16, 0, 65_536),
        ("uint32", "uint32", np.uint32, 0, 2**32),
        ("uint64", "uint64", np.uint64, 0, 2**63),
        ("float64", "double", np.float64, -1000, 1000),
        ("float16", "float16", np.float16, -1000, 1000),
        ("bfloat16", "bfloat16", ml_dtypes.bfloat16, -100, 100),
        ("bool", "bool", np.bool_, 0, 2),
    ]
    made = []
    for name, text, dtype, low, high in kinds:

        def make(text: str = text) -> onnx.ModelProto:
            return graph(f"g ({text}[N, 3] x) => ({text}[N, 3] y) {{ y = Identity(x) }}")

        one = row(f"dtype-{name}", make, of_dtype(dtype, low, high, (3,)), why=f"values of {name} pass unchanged")
        # Python's session takes no bfloat16 arrays, and the graph is the identity.
        made.append(replace(one, expected=lambda _, inputs: {"y": inputs["x"]}) if name == "bfloat16" else one)
    return made


def _strings(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    words = np.array(["", "a", "Grüße", "two words", '"quoted", comma', "new\nline", "日本", "x" * 300], object)
    return {"s": words[random.integers(0, len(words), (rows, 2))]}


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


def _over_rows(body: str, outputs: str = "float[N, 3] y", **weights: NDArray[Any]) -> Callable[[], onnx.ModelProto]:
    return lambda: graph(f"g (float[N, 3] x) => ({outputs}) {{ {body} }}", **weights)


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
            _over_rows("t = Transpose<perm = [1, 0]>(x)  s = MatMul(x, t)  p = Softmax<axis = 1>(s)  y = MatMul(p, x)"),
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
            _over_rows("n = Shape(x)  k = Gather(n, z)  v, i = TopK<axis = 0>(x, k)  y = Identity(v)", z=zero),
            "each column is sorted over the rows",
        ),
        (
            "previous-row",
            _over_rows(
                "h = Slice(x, s, e, a)  f = Slice(x, z, o, a)  y = Concat<axis = 0>(f, h)",
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
                "n = Shape(x)  k = Gather(n, z0)  r = Range(i0, k, i1)  f = Cast<to = 1>(r)  u = Unsqueeze(f, one)  y = Add(x, u)",
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
                "m = ReduceMean<axes = [0]>(x)  d = Sub(x, m)  q = Mul(d, d)  v = ReduceMean<axes = [0]>(q)  e = Add(v, eps)  s = Sqrt(e)  y = Div(d, s)",
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
                "s = ReduceSum<keepdims = 0>(x, one)  b = Greater(s, z)  y = Compress<axis = 0>(x, b)",
                outputs="float[M, 3] y",
                one=np.array([1], np.int64),
                z=np.array(0, np.float32),
            ),
            "the number of output rows depends on the values",
        ),
        ("scan-over-rows", _scan, "a state runs over the rows"),
        ("nonzero", _over_rows("y = NonZero(x)", outputs="int64[2, M] y"), "indices of the whole batch"),
        (
            "unique-of-batch",
            _over_rows(
                "f = Flatten<axis = 0>(x)  q = Squeeze(f, zr)  y, i, v, c = Unique<sorted = 1>(q)",
                outputs="float[M] y",
                zr=zero,
            ),
            "the values of the whole batch",
        ),
    ]
    # Several of them give another number of rows, or only one: a request is run whole and alone.
    return [row(name, make, x3, why=why, independent=False, row_counts=(1, 2, 7)) for name, make, why in mixing]


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


def _sizes(**shapes: tuple[Any, ...]) -> MakeInputs:
    """Inputs whose axes are numbers, ``"rows"``, or a range (low, high) to draw from; equal letters are equal sizes."""

    def make(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        drawn: dict[str, int] = {"rows": rows}
        made: dict[str, NDArray[Any]] = {}
        for name, shape in shapes.items():
            sizes = []
            for axis in shape:
                if isinstance(axis, str) and axis not in drawn:
                    drawn[axis] = int(random.integers(1, 9))
                sizes.append(drawn[axis] if isinstance(axis, str) else axis)
            made[name] = random.standard_normal(sizes).astype(np.float32)
        return made

    return make


def _edges(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    nodes = int(random.integers(3, 9))
    return {
        "x": random.standard_normal((nodes, 4)).astype(np.float32),
        "edges": random.integers(0, nodes, (2, rows + 2)).astype(np.int64),
    }


def _signatures() -> list[ZooModel]:
    """Signatures that are not [N, features]."""
    return [
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
            _sizes(a=("rows", 4), b=("m", 4)),
            independent=False,
            why="one set is compared with another: the two first axes have two names",
        ),
        row(
            "candidates-of-a-query",
            lambda: graph(
                "g (float[1, 4] q, float[C, 4] c) => (float[C] y) { t = Transpose<perm = [1, 0]>(q) s = MatMul(c, t) a = Constant<value_ints = [1]>() y = Squeeze(s, a) }"
            ),
            _sizes(q=(1, 4), c=("rows", 4)),
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
        ),
        row(
            "scalar-input",
            lambda: graph("g (float x) => (float y) { y = Add(x, x) }"),
            lambda random, rows: {"x": np.array(random.standard_normal(), np.float32)},
            independent=False,
            row_counts=(1,),
            why="a tensor without axes",
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
                "g (float[B, 8] input, float[2, B, 4] state, int64 sr) => (float[B, 1] output, float[2, B, 4] stateN) { m = ReduceMean<axes = [1]>(input) f = Cast<to = 1>(sr) d = Div(m, f) output = Sigmoid(d) stateN = Tanh(state) }"
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
        row(
            "fixed-batch-1",
            lambda: graph("g (float[1, 2] x) => (float[1, 2] y) { y = Softmax<axis = 1>(x) }"),
            floats(x=(2,)),
            why="a batch of one is fixed: more rows are run one by one",
        ),
        row(
            "fixed-batch-3",
            lambda: graph("g (float[3, 2] x) => (float[3, 2] y) { y = Softmax<axis = 1>(x) }"),
            floats(x=(2,)),
            row_counts=(3,),
            why="a batch of three is fixed",
        ),
        row(
            "fixed-image",
            lambda: graph(
                "g (float[1, 3, 8, 8] x) => (float[1, 4] y) { p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w) }",
                w=weight(3, 4),
            ),
            floats(x=(3, 8, 8)),
            why="an exported image network with a fixed batch of one",
        ),
        row(
            "free-image-sizes",
            lambda: graph(
                "g (float[N, 3, H, W] x) => (float[N, 4] y) { p = GlobalAveragePool(x) f = Flatten(p) y = MatMul(f, w) }",
                w=weight(3, 4),
            ),
            _sizes(x=("rows", 3, "h", "w")),
            why="height and width are free",
        ),
        row(
            "segmentation",
            lambda: graph("g (float[N, 3, H, W] x) => (float[N, 2, H, W] y) { y = Conv(x, w) }", w=weight(2, 3, 1, 1)),
            _sizes(x=("rows", 3, "h", "w")),
            why="the output is as large as the input",
        ),
        row(
            "one-axis",
            lambda: graph("g (float[N] x) => (float[N] y) { y = Mul(x, x) }"),
            lambda random, rows: {"x": random.standard_normal(rows).astype(np.float32)},
            why="a row is a number",
        ),
        row(
            "two-outputs",
            lambda: graph(
                "g (float[N, 3] x) => (float[N, 3] p, int64[N] label) { p = Softmax<axis = 1>(x) label = ArgMax<axis = 1, keepdims = 0>(x) }"
            ),
            floats(x=(3,)),
            why="two outputs of two dtypes",
        ),
        row(
            "four-inputs",
            lambda: graph(
                "g (float[N, 1] a, int64[N, 1] b, double[N, 2] c, bool[N, 1] d) => (float[N, 1] y) { bf = Cast<to = 1>(b) cf = Cast<to = 1>(c) df = Cast<to = 1>(d) m = ReduceSum<keepdims = 1>(cf, one) s = Sum(a, bf, df, m) y = Identity(s) }",
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
                "g (int64[N, L] ids, int64[N, L] mask) => (float[N, 2] y) { e = Gather(table, ids) f = Cast<to = 1>(mask) u = Unsqueeze(f, two) m = Mul(e, u) s = ReduceSum<keepdims = 0>(m, one) c = ReduceSum<keepdims = 1>(f, one) d = Max(c, eps) y = Div(s, d) }",
                table=weight(20, 2),
                one=np.array([1], np.int64),
                two=np.array([2], np.int64),
                eps=np.array(1, np.float32),
            ),
            _tokens,
            why="lengths differ between requests",
        ),
        row(
            "long-row",
            lambda: graph("g (float[N, 240000] x) => (float[N, 1] y) { y = ReduceMean<axes = [1]>(x) }"),
            floats(x=(240_000,)),
            row_counts=(1, 2),
            tags=("large",),
            why="a row of 240,000 numbers",
        ),
        row(
            "narrow-rows",
            lambda: graph("g (float[N, 1] x) => (float[N, 1] y) { y = Neg(x) }"),
            floats(x=(1,)),
            row_counts=(1, 1000),
            why="very many very narrow rows",
        ),
        row(
            "minus-one-axis", lambda: _with_axes([-1, 3]), floats(x=(3,)), why="an exporter wrote -1 for the batch axis"
        ),
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
            independent=False,
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
        ),
        row("if-on-values", _if_on_values, floats(x=(3,)), independent=False, why="a branch chosen by the whole batch"),
        row("loop", _loop, floats(x=(3,)), why="a loop with a fixed count"),
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
            tags=("missing",),
        ),
        row(
            "boxes",
            _boxes,
            _box_inputs,
            independent=False,
            row_counts=(1, 2),
            why="the number of boxes depends on the values",
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
    ]


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


def _box_inputs(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
    corner = random.random((rows, 6, 2))
    boxes = np.concatenate([corner, corner + random.random((rows, 6, 2))], axis=2)
    return {"boxes": boxes.astype(np.float32), "scores": random.random((rows, 1, 6)).astype(np.float32)}


def _boxes() -> onnx.ModelProto:
    return graph(
        "g (float[N, 6, 4] boxes, float[N, 1, 6] scores) => (int64[K, 3] kept) { kept = NonMaxSuppression(boxes, scores, most, overlap, least) }",
        most=np.array([4], np.int64),
        overlap=np.array([0.3], np.float32),
        least=np.array([0.4], np.float32),
    )


def _renamed(x: str, y: str) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Neg", [x], [y])],
        "g",
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch size", 3])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, ["batch size", 3])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _with_axes(axes: Any, *, output_shape: bool = True) -> onnx.ModelProto:
    made = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes if output_shape else None)],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _string_labels() -> onnx.ModelProto:
    made = helper.make_graph(
        [
            helper.make_node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
            helper.make_node("Gather", ["labels", "i"], ["label"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("label", TensorProto.STRING, ["N"])],
        [helper.make_tensor("labels", TensorProto.STRING, [3], [b"cat", "Hündchen".encode(), b'no, "bird"'])],
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


def _static_int8() -> onnx.ModelProto:
    return graph(
        """g (float[N, 3] x) => (float[N, 2] y) {
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  wd = DequantizeLinear(w, ws, wz)  y = MatMul(d, wd)
        }""",
        s=np.array(0.05, np.float32),
        z=np.array(0, np.int8),
        w=np.random.default_rng(3).integers(-100, 100, (3, 2)).astype(np.int8),
        ws=np.array(0.01, np.float32),
        wz=np.array(0, np.int8),
    )


GRAPHS: tuple[ZooModel, ...] = (*_dtypes(), *_mixes_rows(), *_signatures())
