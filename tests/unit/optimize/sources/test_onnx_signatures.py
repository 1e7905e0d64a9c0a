"""Signatures of ONNX files that other exporters write: every kind loads, and its baseline equals the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optimize.errors import BadInput
from optimize.evaluation import dataset
from optimize.evaluation.dataset import Dataset, Layout
from optimize.sources import SourceSpec, baseline, conversion, onnx_file
from optimize.sources.baseline import Proof
from server.tensors import Array

ROWS = 20
RNG = np.random.default_rng(0)
MATRIX = RNG.normal(size=(8, 4)).astype(np.float32)
Dims = list[Any] | None


def value(name: str, dims: Dims, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """A value with these axes; None has no shape, and -1 is written as a negative size."""
    made = helper.make_tensor_value_info(name, dtype, dims)
    for dim, size in zip(made.type.tensor_type.shape.dim, dims or (), strict=True):
        if isinstance(size, int):
            dim.dim_value = size
    return made


def save(path: Path, nodes: Any, inputs: Any, outputs: Any, weights: Mapping[str, Array], **versions: int) -> Path:
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    if versions.get("ir", 8) < 4:
        inputs = [*inputs, *(value(name, list(array.shape)) for name, array in weights.items())]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    opset = helper.make_opsetid("", versions.get("opset", 17))
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=versions.get("ir", 8)), path)
    return path


def product(path: Path, given_dims: Dims, out_dims: Dims, **versions: int) -> Path:
    """``x`` [n, 8] times a matrix to ``y`` [n, 4]."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(path, [node], [value("x", given_dims)], [value("y", out_dims)], {"w": MATRIX}, **versions)


def pictures(path: Path, names: tuple[Any, Any], multiple: int) -> Path:
    """``x`` [n, 3, h, w] halved and enlarged again: height and width must be divisible by ``multiple``."""
    steps, last = [], "x"
    for step in range(int(np.log2(multiple))):
        steps.append(helper.make_node("MaxPool", [last], [f"d{step}"], kernel_shape=[2, 2], strides=[2, 2]))
        last = f"d{step}"
    steps.append(helper.make_node("Resize", [last, "", "scale"], ["up"], mode="nearest"))
    steps.append(helper.make_node("Add", ["up", "x"], ["y"]))
    scale = np.array([1, 1, multiple, multiple], np.float32)
    faces = [value("x", ["n", 3, *names])], [value("y", ["n", 3, None, None])]
    return save(path, steps, *faces, {"scale": scale})


def detector(path: Path, batch: Any) -> Path:
    """A voice detector: ``x`` [b, 8], ``state`` [2, b, 4] and the scalar ``sr`` to ``y`` [b, 4] and ``next``."""
    nodes = [
        helper.make_node("Gather", ["state", "zero"], ["last"]),
        helper.make_node("MatMul", ["x", "w"], ["seen"]),
        helper.make_node("Add", ["seen", "last"], ["sum"]),
        helper.make_node("Cast", ["sr"], ["rate"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum", "rate"], ["y"]),
        helper.make_node("Identity", ["state"], ["next"]),
    ]
    inputs = [value("x", [batch, 8]), value("state", [2, batch, 4]), value("sr", [], TensorProto.INT64)]
    outputs = [value("y", [batch, 4]), value("next", [2, batch, 4])]
    return save(path, nodes, inputs, outputs, {"w": MATRIX, "zero": np.array(0)})


def proven(path: Path, inputs: Mapping[str, Array], layout: Layout, **spec: Any) -> tuple[conversion.Conversion, Proof]:
    data = Dataset(dict(inputs), None, "", layout)
    source = onnx_file.load(SourceSpec(str(path), **spec), data)
    directory = path.parent / "work"
    directory.mkdir(exist_ok=True)
    found = conversion.convert(source, data, (1, 2, 5), directory)
    return found, baseline.write(found, directory / "baseline.onnx")


def shape(path: Path, name: str) -> list[Any]:
    model = onnx.load(path.parent / "work" / "baseline.onnx")
    found = next(v for v in (*model.graph.input, *model.graph.output) if v.name == name)
    return [dim.dim_value if dim.HasField("dim_value") else "free" for dim in found.type.tensor_type.shape.dim]


def rows(*sizes: int) -> Array:
    return RNG.normal(size=(ROWS, *sizes)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Kind:
    write: Callable[[Path], Path]
    inputs: Mapping[str, Array]
    shapes: Mapping[str, list[Any]]


KINDS = {
    "negative size": Kind(lambda p: product(p, [-1, 8], [-1, 4]), {"x": rows(8)}, {"x": ["free", 8], "y": ["free", 4]}),
    "output without shape": Kind(lambda p: product(p, ["n", 8], None), {"x": rows(8)}, {"y": ["free", "free"]}),
    "input without shape": Kind(lambda p: product(p, None, None), {"x": rows(8)}, {"x": ["free", 8]}),
    "wrong output rank": Kind(lambda p: product(p, ["n", 8], ["n"]), {"x": rows(8)}, {"y": ["free", "free"]}),
    "weights among inputs": Kind(
        lambda p: product(p, ["n", 8], ["n", 4], ir=3, opset=9), {"x": rows(8)}, {"x": ["free", 8]}
    ),
    "old opset": Kind(lambda p: product(p, ["n", 8], ["n", 4], opset=11), {"x": rows(8)}, {"x": ["free", 8]}),
    "fixed batch": Kind(lambda p: product(p, [3, 8], [3, 4]), {"x": rows(8)}, {"x": ["free", 8], "y": ["free", 4]}),
    "question marks": Kind(
        lambda p: pictures(p, ("?", "?"), 1), {"x": rows(3, 8, 12)}, {"x": ["free", 3, "free", "free"]}
    ),
    "unnamed axes": Kind(
        lambda p: pictures(p, (None, None), 1), {"x": rows(3, 8, 12)}, {"x": ["free", 3, "free", "free"]}
    ),
    "bad names": Kind(
        lambda p: pictures(p, ("h/2 px", "w-1"), 1), {"x": rows(3, 8, 12)}, {"x": ["free", 3, "free", "free"]}
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_signature_is_proven(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    path = kind.write(tmp_path / "m.onnx")
    _, proof = proven(path, kind.inputs, Layout())
    assert proof.worst < 1e-5
    assert [size for size, _ in proof.differences] == [1, 2, 5]
    assert {key: shape(path, key) for key in kind.shapes} == kind.shapes
    assert baseline.opset(onnx.load(tmp_path / "work" / "baseline.onnx")) >= baseline.OLDEST_OPSET


@settings(max_examples=12)
@given(multiple=st.sampled_from([1, 2, 4, 8]), height=st.integers(3, 6), width=st.integers(3, 6))
def test_lengths_of_the_proof_are_multiples_that_the_model_takes(
    multiple: int, height: int, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = pictures(tmp_path_factory.mktemp("m") / "m.onnx", ("height", "width"), multiple)
    sizes = {"height": height * multiple, "width": width * multiple}
    found, proof = proven(path, {"x": rows(3, *sizes.values())}, Layout())
    assert {axis.name for axis in found.axes} == set(sizes)
    for name, lengths in proof.lengths:
        assert len(lengths) > 1
        assert all(length % multiple == 0 and length <= sizes[name] for length in lengths)


def test_an_axis_that_takes_one_size_only_is_fixed_with_a_warning(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "c"], ["y"])
    path = save(
        tmp_path / "m.onnx", [node], [value("x", ["n", "steps"])], [value("y", ["n", "steps"])], {"c": MATRIX[:, 0]}
    )
    found, _ = proven(path, {"x": rows(8)}, Layout())
    assert found.axes == ()
    assert "'steps' is fixed to 8" in found.warnings[0]
    assert shape(path, "x") == ["free", 8]


@pytest.mark.parametrize(("fixed", "left"), [(("width",), {"height"}), (("x:2",), {"width"}), (("all",), set())])
def test_the_option_fixes_axes(fixed: tuple[str, ...], left: set[str], tmp_path: Path) -> None:
    path = pictures(tmp_path / "m.onnx", ("height", "width"), 2)
    found, _ = proven(path, {"x": rows(3, 8, 12)}, Layout(), fixed=fixed)
    assert {axis.name for axis in found.axes} == left
    with pytest.raises(BadInput, match="its free axes are height"):
        proven(path, {"x": rows(3, 8, 12)}, Layout(), fixed=("depth",))


STATES: dict[str, tuple[dict[str, Array], dict[str, int | None]]] = {
    "rows on the state's axis": ({"state": RNG.normal(size=(2, ROWS, 4)).astype(np.float32)}, {"state": 1, "sr": None}),
    "one state per row": ({"state": rows(2, 1, 4)}, {"sr": None}),
    "one state for all rows": ({"state": np.ones((2, 1, 4), np.float32)}, {"state": None, "sr": None}),
}


@pytest.mark.parametrize("batch", ["batch", 1])
@pytest.mark.parametrize("name", STATES)
def test_state_and_scalar_inputs(name: str, batch: Any, tmp_path: Path) -> None:
    state, row_axes = STATES[name]
    path = detector(tmp_path / "m.onnx", batch)
    inputs = {"x": rows(8), **state, "sr": np.array(16000)}
    found, proof = proven(path, inputs, Layout(row_axes))
    assert proof.worst == 0
    assert [size for size, _ in proof.differences] == ([1, 2, 5] if batch == "batch" else [1])
    arranged = found.arranged(Dataset(inputs, None, "", Layout(row_axes)))
    assert arranged.batch(1)["state"].shape == (2, 1, 4)
    assert arranged.batch(1)["sr"].shape == ()
    assert found.layout.run_rows == (None if batch == "batch" else 1)


def test_a_value_that_differs_between_rows_is_no_scalar(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx", "batch")
    inputs = {"x": rows(8), "state": rows(2, 1, 4), "sr": np.arange(ROWS)}
    with pytest.raises(BadInput, match="'sr' differs between rows"):
        proven(path, inputs, Layout())


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1)])
def test_text_inputs_and_outputs(shape: tuple[int, ...], tmp_path: Path) -> None:
    texts = np.array(["ä", "b", "long text"] * 7, object)[:ROWS].reshape(shape)
    dims = ["n", *shape[1:]]
    node = helper.make_node("Identity", ["t"], ["y"])
    faces = [value("t", dims, TensorProto.STRING)], [value("y", dims, TensorProto.STRING)]
    path = save(tmp_path / "m.onnx", [node], *faces, {})
    _, proof = proven(path, {"t": texts}, Layout())
    assert proof.worst == 0


def test_texts_and_layouts_are_stored_for_other_processes(tmp_path: Path) -> None:
    layout = Layout({"state": 1, "sr": None}, 2)
    inputs = {"t": np.array(["ä", "b"], object), "state": np.ones((2, 2, 3)), "sr": np.array(5)}
    dataset.store(Dataset(inputs, None, "d", layout), tmp_path)
    found = dataset.stored(tmp_path)
    assert found.layout == layout
    assert found.inputs["t"].tolist() == ["ä", "b"]
    assert found.batch(2)["sr"] == 5


def test_external_data_keeps_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is never loaded whole: its graph and its data files are placed side by side."""
    path = product(tmp_path / "m.onnx", ["n", 8], ["n", 4])
    model = onnx.load(path)
    (tmp_path / "weights").mkdir()
    onnx.save(model, path, save_as_external_data=True, location="weights/w.bin", size_threshold=0)
    monkeypatch.setattr("optimize.sources.onnx_file.LARGEST_BYTES", 1)
    found, proof = proven(path, {"x": rows(8)}, Layout())
    assert proof.worst == 0
    assert "w.bin" in found.digests
    assert (tmp_path / "work" / "weights_w.bin").is_file()
