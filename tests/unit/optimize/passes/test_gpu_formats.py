"""Int8 and FP8 for tensor cores: TensorRT's rules hold in the file, and the twins show the formats' own noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.errors import PassFailed
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import outputs, sqnr_db
from optimize.hardware import Hardware
from optimize.passes import (
    Apply,
    PassJob,
    PassRecord,
    fp8_from_symmetric,
    half_from_float32,
    symmetric_qdq_from_float32,
)
from server.tensors import Array

MACHINE = Hardware("Abacus 3", "x86_64", (), 2)
RNG = np.random.default_rng(0)
ROWS = Dataset({"x": RNG.normal(size=(32, 3, 8, 8)).astype(np.float32)}, None, "")
WEIGHTS: dict[str, Array] = {
    "k1": RNG.normal(size=(16, 3, 3, 3)) / 3,
    "k2": RNG.normal(size=(32, 16, 3, 3)) / 12,
    "b2": RNG.normal(size=32),
    "w": RNG.normal(size=(32 * 64, 20)) / 40,
}


def network(path: Path) -> Path:
    """``x`` FP32 [batch, 3, 8, 8]: a small convolution, a larger one, and a product to ``y`` FP32 [batch, 20]."""
    nodes = [
        helper.make_node("Conv", ["x", "k1"], ["a"], pads=[1] * 4, name="small"),
        helper.make_node("Relu", ["a"], ["b"], name="positive"),
        helper.make_node("Conv", ["b", "k2", "b2"], ["c"], pads=[1] * 4, name="large"),
        helper.make_node("Flatten", ["c"], ["d"], name="flat"),
        helper.make_node("Gemm", ["d", "w"], ["y"], name="product"),
    ]
    faces = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 20]),
    ]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in WEIGHTS.items()]
    graph = helper.make_graph(nodes, "network", faces[:1], faces[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PassRecord]:
    """The records of the passes after each other: int8, in half precision, in FP8."""
    folder = tmp_path_factory.mktemp("formats")
    records = {"float32": PassRecord(network(folder / "source.onnx"), {})}
    steps: tuple[tuple[str, Apply, dict[str, str | int | bool], str], ...] = (
        ("int8", symmetric_qdq_from_float32.apply, {"calibrate": "minmax"}, "float32"),
        ("half", half_from_float32.apply, {"to": "float16"}, "int8"),
        ("fp8", fp8_from_symmetric.apply, {}, "half"),
    )
    for name, apply, options, before in steps:
        (folder / name).mkdir()
        records[name] = apply(PassJob(records[before].path, folder / name, options, ROWS, MACHINE, 0))
    return records


def pairs(path: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(path).graph.node if node.op_type in half_from_float32.PAIRS]


def constants(path: Path) -> dict[str, onnx.TensorProto]:
    return {one.name: one for one in onnx.load(path).graph.initializer}


def test_int8_is_symmetric_has_no_quantized_bias_and_leaves_small_layers(made: dict[str, PassRecord]) -> None:
    path = made["int8"].path
    known = constants(path)
    assert made["int8"].applied["small_layers_in_float"] == 1
    for node in pairs(path):
        zero = known[node.input[2]]
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
        assert node.input[0] not in known or node.op_type == "QuantizeLinear"
    by_name = {node.name: node for node in onnx.load(path).graph.node}
    assert list(by_name["small"].input) == ["x", "k1"]
    assert by_name["large"].input[2] == "b2"
    assert known["b2"].data_type == TensorProto.FLOAT
    readers = [node.op_type for node in onnx.load(path).graph.node if set(node.input) & {"c", "y"}]
    assert "QuantizeLinear" not in readers, "outputs of layers are not quantized: the next layer's input is"


def test_every_scale_is_cast_to_half_and_every_layer_follows(made: dict[str, PassRecord]) -> None:
    known = constants(made["half"].path)
    assert {known[node.input[1]].data_type for node in pairs(made["half"].path)} == {TensorProto.FLOAT16}
    assert made["half"].applied["float32_nodes"] == 0


def test_fp8_has_one_scale_for_its_larger_range(made: dict[str, PassRecord]) -> None:
    half, fp8 = constants(made["half"].path), constants(made["fp8"].path)
    for node in pairs(made["fp8"].path):
        assert fp8[node.input[2]].data_type == TensorProto.FLOAT8E4M3FN
        before, after = (numpy_helper.to_array(known[node.input[1]]) for known in (half, fp8))
        assert after.shape == ()
        assert np.isclose(float(after), float(before.max()) * 127 / 448, rtol=1e-3)
    onnx.checker.check_model(onnx.load(made["fp8"].path), full_check=True)


@pytest.mark.parametrize(("name", "least_db", "most_db"), [("half", 35, 45), ("fp8", 27, 34)])
def test_the_twin_shows_the_noise_of_the_format(
    name: str, least_db: float, most_db: float, made: dict[str, PassRecord]
) -> None:
    exact, twin = outputs(made["float32"].path, ROWS, 8, 1), made[name].twin
    assert twin is not None
    assert least_db < sqnr_db(outputs(twin, ROWS, 8, 1), exact) < most_db


def test_the_twin_of_fp8_agrees_with_the_file_where_the_optimizer_is_off(made: dict[str, PassRecord]) -> None:
    twin = made["fp8"].twin
    assert twin is not None
    plain = outputs(made["fp8"].path, ROWS, 8, 1, optimized=True)
    assert sqnr_db(outputs(twin, ROWS, 8, 1), plain) > 30


def test_a_graph_whose_layers_are_all_small_is_refused(tmp_path: Path) -> None:
    model = onnx.load(network(tmp_path / "small.onnx"))
    del model.graph.node[2:]
    model.graph.node[1].output[0] = model.graph.output[0].name
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    for size in ("batch", 16, 8, 8):
        dim = model.graph.output[0].type.tensor_type.shape.dim.add()
        setattr(dim, "dim_param" if size == "batch" else "dim_value", size)
    onnx.save(model, tmp_path / "small.onnx")
    (tmp_path / "work").mkdir()
    job = PassJob(tmp_path / "small.onnx", tmp_path / "work", {"calibrate": "minmax"}, ROWS, MACHINE, 0)
    with pytest.raises(PassFailed, match="16 channels or more"):
        symmetric_qdq_from_float32.apply(job)
