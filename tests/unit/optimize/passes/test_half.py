"""The half-precision cast: where values fit it is taken, where they would not the graph stays in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.errors import PassFailed
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import outputs, sqnr_db
from optimize.hardware import Hardware
from optimize.passes import PassJob, PassRecord, half_from_float32
from server.tensors import Array

MACHINE = Hardware("Abacus 3", "x86_64", ("avx2", "avx512_vnni"), 2)
ROWS = Dataset({"x": np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32)}, None, "")


def chain(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, Array], extra: tuple[str, ...] = ()) -> Path:
    """``x`` FP32 [batch, 16] through ``nodes`` to ``y`` [batch, 16] and the outputs in ``extra``."""
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 16]) for name in ("x", "y", *extra)]
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "chain", faces[:1], faces[1:], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def node(operator: str, inputs: str, made: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), [made], name=f"{operator}_{made}", **attributes)


def cast(source: Path, workdir: Path, to: str = "float16", keep: tuple[str, ...] = ()) -> PassRecord:
    workdir.mkdir()
    return half_from_float32.apply(PassJob(source, workdir, {"to": to}, ROWS, MACHINE, 0, keep))


def exact(path: Path) -> Array:
    """The answers with every value rounded to its type. ONNX Runtime would not do that on a processor: it computes
    neighbouring float16 nodes in float32 and leaves out the casts between them."""
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        (answers,) = ReferenceEvaluator(onnx.load(path)).run(None, dict(ROWS.inputs))
    return np.asarray(answers)


def matrix(seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(16, 16)) / 4


def plain(tmp_path: Path) -> Path:
    nodes = [node("MatMul", "x w1", "a"), node("Relu", "a", "b"), node("MatMul", "b w2", "y")]
    return chain(tmp_path / "plain.onnx", nodes, {"w1": matrix(1), "w2": matrix(2)})


def types_of_products(path: Path) -> dict[str, int]:
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    types = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.output)}
    return {made.name: types[made.output[0]] for made in model.graph.node if made.op_type != "Cast"}


def test_what_fits_is_cast_and_stays_close(tmp_path: Path) -> None:
    record = cast(plain(tmp_path), tmp_path / "work")
    assert record.applied == {"to": "float16", "cast_nodes": 3, "float32_nodes": 0}
    assert set(types_of_products(record.path).values()) == {TensorProto.FLOAT16}
    onnx.checker.check_model(onnx.load(record.path), full_check=True)
    assert 50 < sqnr_db(outputs(record.path, ROWS, 8, 1), outputs(plain(tmp_path), ROWS, 8, 1)) < 90


def test_inputs_and_outputs_keep_their_names_and_types(tmp_path: Path) -> None:
    graph = onnx.load(cast(plain(tmp_path), tmp_path / "work").path).graph
    for value, name in ((graph.input[0], "x"), (graph.output[0], "y")):
        assert (value.name, value.type.tensor_type.elem_type) == (name, TensorProto.FLOAT)


def overflowing(tmp_path: Path) -> Path:
    """Squares of values around 1000: an overflow in float16, undone right after."""
    nodes = [
        node("MatMul", "x w1", "a"),
        node("Mul", "a thousand", "large"),
        node("Mul", "large large", "square"),
        node("Sqrt", "square", "root"),
        node("Div", "root thousand", "b"),
        node("MatMul", "b w2", "y"),
    ]
    constants = {"w1": matrix(1), "w2": matrix(2), "thousand": np.array(1000.0)}
    return chain(tmp_path / "overflowing.onnx", nodes, constants)


def test_an_overflow_becomes_an_island_of_float32(tmp_path: Path) -> None:
    record = cast(overflowing(tmp_path), tmp_path / "work")
    types = types_of_products(record.path)
    assert types["Mul_square"] == types["Sqrt_root"] == TensorProto.FLOAT
    assert types["MatMul_a"] == types["MatMul_y"] == TensorProto.FLOAT16
    assert "square reaches" in str(record.applied["float32_because"])
    assert sqnr_db({"y": exact(record.path)}, outputs(overflowing(tmp_path), ROWS, 8, 1)) > 50


def test_without_the_observed_ranges_it_would_have_overflowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_from_float32, "LARGEST", {"float16": np.inf})
    record = cast(overflowing(tmp_path), tmp_path / "work")
    assert not np.isfinite(exact(record.path)).all()


def test_an_epsilon_that_would_vanish_keeps_its_node(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w1", "a"), node("Abs", "a", "b"), node("Add", "b epsilon", "c"), node("Log", "c", "y")]
    source = chain(tmp_path / "log.onnx", nodes, {"w1": matrix(1), "epsilon": np.array(1e-12)})
    record = cast(source, tmp_path / "work")
    assert "the constant epsilon would become zero" in str(record.applied["float32_because"])


def test_a_constant_that_both_sides_use_exists_twice_and_an_inner_output_stays_float32(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("MatMul", "a w", "kept"), node("MatMul", "kept w", "y")]
    source = chain(tmp_path / "shared.onnx", nodes, {"w": matrix(1)}, extra=("kept",))
    record = cast(source, tmp_path / "work", keep=("kept",))
    types = types_of_products(record.path)
    assert types == {
        "MatMul_a": TensorProto.FLOAT16,
        "MatMul_kept": TensorProto.FLOAT,
        "MatMul_y": TensorProto.FLOAT16,
    }
    assert {tensor.data_type for tensor in onnx.load(record.path).graph.initializer} == {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
    }
    assert list(outputs(record.path, ROWS, 8, 1)) == ["y", "kept"]


def test_bfloat16_needs_no_islands_for_large_values(tmp_path: Path) -> None:
    record = cast(overflowing(tmp_path), tmp_path / "work", to="bfloat16")
    assert record.applied["float32_nodes"] == 0
    assert set(types_of_products(record.path).values()) == {TensorProto.BFLOAT16}


def test_bfloat16_leaves_operators_without_a_kernel_in_float32(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w1", "a"), node("Clip", "a low", "b"), node("MatMul", "b w2", "y")]
    constants = {"w1": matrix(1), "w2": matrix(2), "low": np.array(-0.5)}
    source = chain(tmp_path / "clip.onnx", nodes, constants)
    kept = cast(source, tmp_path / "bfloat16", to="bfloat16")
    assert kept.applied["float32_because"] == "Clip Clip_b: ONNX Runtime has no bfloat16 kernel for it"
    assert types_of_products(kept.path)["Clip_b"] == TensorProto.FLOAT
    assert cast(source, tmp_path / "float16").applied["float32_nodes"] == 0


@pytest.mark.parametrize(("extra", "islands"), [((), 0), (("mean",), 1)])
def test_statistics_of_a_normalisation_stay_in_float32(tmp_path: Path, extra: tuple[str, ...], islands: int) -> None:
    norm = node("SkipLayerNormalization", "a x scale", "b", domain="com.microsoft")
    norm.output.extend(["mean", "deviation"])
    constants = {"w1": matrix(1), "scale": np.ones(16)}
    source = chain(
        tmp_path / "norm.onnx", [node("MatMul", "x w1", "a"), norm, node("Relu", "b", "y")], constants, extra
    )
    model = onnx.load(source)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, source)
    record = cast(source, tmp_path / "work")
    assert record.applied["float32_nodes"] == islands
    assert sqnr_db(outputs(record.path, ROWS, 8, 1), outputs(source, ROWS, 8, 1)) > 50


def test_operators_without_a_bfloat16_kernel_on_cuda_stay_in_float32(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w1", "a"), node("LeakyRelu", "a", "b"), node("MatMul", "b w2", "y")]
    source = chain(tmp_path / "leaky.onnx", nodes, {"w1": matrix(1), "w2": matrix(2)})
    for to, islands in (("float16", 0), ("bfloat16", 1)):
        assert cast(source, tmp_path / to, to=to).applied["float32_nodes"] == islands


def test_a_graph_with_branches_is_refused(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [node("Identity", "x", "out")], "b", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    )
    nodes = [node("If", "yes", "y", then_branch=branch, else_branch=branch)]
    source = chain(tmp_path / "if.onnx", nodes, {})
    model = onnx.load(source)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    onnx.save(model, source)
    with pytest.raises(PassFailed, match="branches or loops"):
        cast(source, tmp_path / "work")
