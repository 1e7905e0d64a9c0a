"""The judging twin answers on a processor what the half-precision graph answers in the ONNX reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import outputs, sqnr_db
from optimize.hardware import Hardware
from optimize.passes import PassJob, PassRecord, half_from_float32, twin
from server.tensors import Array

MACHINE = Hardware("Abacus 3", "x86_64", ("avx2", "avx512_vnni"), 2)
HALF, BF16, FLOAT = TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT
RNG = np.random.default_rng(5)
X = (RNG.normal(size=(12, 6)) * 3).astype(np.float32)
ROWS = Dataset({"x": X}, None, "")

Made = tuple[str, str, str, dict[str, Any]]


def half_graph(path: Path, nodes: list[Made], low: int = HALF) -> Path:
    """``x`` FP32 [n, 6], cast to ``low`` as ``h``, through ``nodes`` to ``z`` in ``low``, cast back to ``y``."""
    w = numpy_helper.to_array(helper.make_tensor("w", FLOAT, (6, 6), RNG.normal(size=36))).astype(np.float32)
    cast = numpy_helper.from_array(w.astype(helper.tensor_dtype_to_np_dtype(low)), "w")
    made = [
        helper.make_node("Cast", ["x"], ["h"], to=low),
        *(helper.make_node(kind, takes.split(), [gives], **given) for kind, takes, gives, given in nodes),
        helper.make_node("Cast", ["z"], ["y"], to=FLOAT),
    ]
    faces = [helper.make_tensor_value_info(name, FLOAT, ["n", None]) for name in "xy"]
    graph = helper.make_graph(made, "half", faces[:1], faces[1:], [cast])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def truth(path: Path) -> Array:
    with np.errstate(all="ignore"):
        (answers,) = ReferenceEvaluator(onnx.load(path)).run(None, dict(ROWS.inputs))
    return np.asarray(answers)


EXACT: dict[str, list[Made]] = {
    "overflow": [("Mul", "h h", "a", {}), ("Mul", "a a", "b", {}), ("Mul", "b b", "c", {}), ("Sqrt", "c", "z", {})],
    "chain": [("Add", "h h", "a", {}), ("Mul", "a h", "b", {}), ("Sub", "b h", "c", {}), ("Div", "c h", "z", {})],
    "a cast to an integer and back": [
        ("Mul", "h h", "a", {}),
        ("Cast", "a", "i", {"to": TensorProto.INT32}),
        ("Cast", "i", "b", {"to": HALF}),
        ("Mul", "b h", "z", {}),
    ],
    "a constant node": [
        ("Constant", "", "k", {"value": helper.make_tensor("k", HALF, (1,), [0.3333])}),
        ("Mul", "h k", "z", {}),
    ],
    "moving data": [
        ("Transpose", "h", "t", {"perm": [1, 0]}),
        ("Transpose", "t", "u", {"perm": [1, 0]}),
        ("Relu", "u", "z", {}),
    ],
}


@pytest.mark.parametrize("name", sorted(EXACT))
def test_single_operations_round_to_the_same_number(name: str, tmp_path: Path) -> None:
    half = half_graph(tmp_path / "half.onnx", EXACT[name])
    judged = twin.write(half, tmp_path / "twin.onnx")
    expected, got = truth(half), outputs(judged, ROWS, 12, 1)["y"]
    # The runtime may contract or reorder what the evaluator does one by one: half a unit in the last place.
    assert np.isfinite(expected).tolist() == np.isfinite(got).tolist()
    finite = np.isfinite(expected)
    assert np.mean(expected[finite] == got[finite]) > 0.98
    assert np.allclose(expected[finite], got[finite], rtol=2**-9)


def test_an_overflow_that_the_processor_hides_is_shown(tmp_path: Path) -> None:
    half = half_graph(tmp_path / "half.onnx", EXACT["overflow"])
    assert not np.isfinite(truth(half)).all()
    assert np.isfinite(outputs(half, ROWS, 12, 1)["y"]).all(), "the runtime rounds by now: the twin is not needed"
    assert not np.isfinite(outputs(twin.write(half, tmp_path / "twin.onnx"), ROWS, 12, 1)["y"]).all()


def test_products_round_their_sums(tmp_path: Path) -> None:
    nodes: list[Made] = [("MatMul", "h w", "a", {}), ("Softmax", "a", "b", {}), ("MatMul", "b w", "z", {})]
    half = half_graph(tmp_path / "half.onnx", nodes)
    exact = outputs(float32_of(half, tmp_path), ROWS, 12, 1)
    judged = outputs(twin.write(half, tmp_path / "twin.onnx"), ROWS, 12, 1)
    assert abs(sqnr_db(judged, exact) - sqnr_db({"y": truth(half)}, exact)) < 3


def float32_of(half: Path, tmp_path: Path) -> Path:
    """The same graph without any rounding of values; its weights are rounded."""
    model = onnx.load(half)
    for one in model.graph.node:
        for attribute in one.attribute:
            if attribute.name == "to":
                attribute.i = FLOAT
    arrays = [numpy_helper.to_array(one).astype(np.float32) for one in model.graph.initializer]
    names = [one.name for one in model.graph.initializer]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(numpy_helper.from_array(*pair) for pair in zip(arrays, names, strict=True))
    onnx.save(model, tmp_path / "exact.onnx")
    return tmp_path / "exact.onnx"


def convolutions(path: Path) -> Path:
    """``x`` FP32 [n, 6] as an image [n, 1, 2, 3] through two convolutions to ``y`` [n, 24]."""
    arrays: dict[str, Array] = {
        "k1": RNG.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "k2": RNG.normal(size=(4, 4, 3, 3)).astype(np.float32) / 6,
        "image": np.array([-1, 1, 2, 3]),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "image"], ["i"], name="shape"),
        helper.make_node("Conv", ["i", "k1"], ["a"], pads=[1] * 4, name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="positive"),
        helper.make_node("Conv", ["b", "k2"], ["c"], pads=[1] * 4, name="second"),
        helper.make_node("Flatten", ["c"], ["y"], name="flat"),
    ]
    faces = [helper.make_tensor_value_info(name, FLOAT, ["n", size]) for name, size in (("x", 6), ("y", 24))]
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "convolutions", faces[:1], faces[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def cast(source: Path, workdir: Path, to: str) -> PassRecord:
    workdir.mkdir()
    return half_from_float32.apply(PassJob(source, workdir, {"to": to}, ROWS, MACHINE, 0))


@pytest.mark.parametrize(("to", "least_db", "most_db"), [("float16", 60, 80), ("bfloat16", 40, 60)])
def test_the_pass_hands_over_a_twin_that_shows_the_format_s_own_noise(
    to: str, least_db: float, most_db: float, tmp_path: Path
) -> None:
    source = convolutions(tmp_path / "source.onnx")
    record = cast(source, tmp_path / "work", to)
    assert record.twin is not None
    exact, judged = outputs(source, ROWS, 12, 1), outputs(record.twin, ROWS, 12, 1)
    assert least_db < sqnr_db(judged, exact) < most_db
    opset = next(one.version for one in onnx.load(record.path).opset_import if not one.domain)
    assert opset >= (22 if to == "bfloat16" else 20), "convolutions take bfloat16 from opset 22 on"
    onnx.checker.check_model(onnx.load(record.path), full_check=True)
    if to == "float16":
        assert abs(sqnr_db({"y": truth(record.path)}, exact) - sqnr_db(judged, exact)) < 3


def test_a_scale_that_would_lose_bits_keeps_its_pair_in_float32(tmp_path: Path) -> None:
    path = half_graph(tmp_path / "pairs.onnx", [("Add", "h h", "z", {})])
    model = onnx.load(path)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array(1e-6, np.float32), "s"), numpy_helper.from_array(np.array(0, np.int8), "o")]
    )
    model.graph.node.extend(
        [
            helper.make_node("Mul", ["x", "x"], ["a"], name="square"),
            helper.make_node("QuantizeLinear", ["a", "s", "o"], ["q"], name="down"),
            helper.make_node("DequantizeLinear", ["q", "s", "o"], ["d"], name="up"),
            helper.make_node("Mul", ["d", "x"], ["y"], name="last"),
        ]
    )
    onnx.save(model, path)
    record = cast(path, tmp_path / "work", "float16")
    assert record.applied["float32_nodes"] == 2
    assert "its scale s is too small" in str(record.applied["float32_because"])
