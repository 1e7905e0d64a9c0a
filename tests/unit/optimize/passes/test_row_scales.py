"""Per-row scales: the same answers alone and among any neighbours, and as close to float32 as one scale for a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from optimize.errors import PassFailed
from optimize.evaluation import evaluate, neighbours
from optimize.evaluation.dataset import Dataset
from optimize.hardware import detect
from optimize.passes import PASSES, PassJob
from optimize.passes.row_scales_from_dynamic import rewrite
from server.tensors import Array

MACHINE = detect()
RNG = np.random.default_rng(0)


def network(path: Path, opset: int, *, bias: bool, tokens: bool) -> Path:
    """Two products, shared input, with or without bias, over rows or over tokens of rows."""
    weights: dict[str, Array] = {
        "w1": RNG.normal(size=(32, 48)).astype(np.float32) / 6,
        "w2": RNG.normal(size=(32, 8)).astype(np.float32) / 6,
        "b": 100 + RNG.normal(size=8).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("MatMul", ["x", "w2"], ["y0"], name="second"),
        helper.make_node("Add", ["y0", "b"], ["y"]) if bias else helper.make_node("Identity", ["y0"], ["y"]),
    ]
    shape: list[str | int | None] = ["batch", 5, 32] if tokens else ["batch", 32]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info(name, 1, [*shape[:-1], size]) for name, size in (("h", 48), ("y", 8))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
def test_neighbours_change_nothing_and_the_answers_stay_close(
    tmp_path: Path, opset: int, bias: bool, tokens: bool
) -> None:
    exact = network(tmp_path / "f.onnx", opset, bias=bias, tokens=tokens)
    data = Dataset({"x": RNG.normal(size=(40, 5, 32) if tokens else (40, 32)).astype(np.float32)}, None, "0")
    (tmp_path / "dynamic").mkdir()
    (tmp_path / "rows").mkdir()
    job = PassJob(exact, tmp_path / "dynamic", {"per_channel": True}, data, MACHINE, 0)
    dynamic = PASSES["dynamic_int8_from_float32"].load()(job).path
    record = PASSES["row_scales_from_dynamic"].load()(PassJob(dynamic, tmp_path / "rows", {}, data, MACHINE, 0))
    assert record.applied["scales"] == "per row"

    def measured(path: Path) -> neighbours.Influence:
        return neighbours.influence(neighbours.alone(path, data, 1), neighbours.served(path, data, 8, 1, 0, 32))

    assert measured(dynamic).dependent, "one scale for the batch is what this pass is for"
    assert not measured(record.path).dependent
    wanted, got = (evaluate.outputs(path, data, 8, 1) for path in (exact, record.path))
    for name, array in wanted.items():
        assert np.abs(got[name] - array).max() < 0.03 * np.abs(array).max(), name


def test_rows_of_zeros_stay_zero(tmp_path: Path) -> None:
    exact = network(tmp_path / "f.onnx", 17, bias=False, tokens=False)
    data = Dataset({"x": np.zeros((4, 32), np.float32)}, None, "0")
    (tmp_path / "dynamic").mkdir()
    job = PassJob(exact, tmp_path / "dynamic", {"per_channel": True}, data, MACHINE, 0)
    model = onnx.load(PASSES["dynamic_int8_from_float32"].load()(job).path)
    assert rewrite(model) == 1, "both products share one quantization"
    onnx.save(model, tmp_path / "r.onnx")
    assert np.array_equal(evaluate.outputs(tmp_path / "r.onnx", data, 4, 1)["y"], np.zeros((4, 8)))


def test_a_graph_without_dynamic_quantization_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PassFailed, match="no activation"):
        rewrite(onnx.load(network(tmp_path / "f.onnx", 17, bias=True, tokens=False)))


def test_activations_as_the_right_factor_are_refused() -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["w", "q", "", "z"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.ones((2, 2), np.int8), "w")]
    outputs = [helper.make_tensor_value_info("y", 6, [2, 2])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 2])],
        outputs,
        weights,
    )
    with pytest.raises(PassFailed, match="right factor"):
        rewrite(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
