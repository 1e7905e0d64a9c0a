"""ONNX sources: files of other exporters, and external data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.errors import BadInput
from optimize.evaluation.dataset import Dataset
from optimize.sources import SourceModel, SourceSpec, baseline, onnx_file
from optimize.sources.axes import Axis
from optimize.sources.baseline import Proof

Prove = Callable[..., Proof]


def load(path: Path, rows: Dataset) -> SourceModel:
    return onnx_file.load(SourceSpec(str(path)), rows)


def external(path: Path, location: str = "weights.bin") -> Path:
    """The graph at ``path`` with its weights in a file beside it, said to be at ``location``."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if location != "weights.bin":
        raw = path.read_bytes().replace(b"weights.bin", location.encode())
        assert len(location) == len("weights.bin")
        path.write_bytes(raw)
    return path


def fixed(path: Path, tail: list[int], target: list[int], keepdims: int = 0) -> Path:
    """``x`` [1, 4] reshaped to ``target`` and summed over the last axis: made for one row."""
    nodes = [
        helper.make_node("Reshape", ["x", "target"], ["folded"], name="fold"),
        helper.make_node("ReduceSum", ["folded", "last"], ["y"], keepdims=keepdims),
    ]
    weights = [
        numpy_helper.from_array(np.array(target, np.int64), "target"),
        numpy_helper.from_array(np.array([-1], np.int64), "last"),
    ]
    faces = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, *s]) for n, s in (("x", [4]), ("y", tail))]
    graph = helper.make_graph(nodes, "fixed", faces[:1], faces[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def table() -> Dataset:
    return Dataset({"x": np.arange(40, dtype=np.float32).reshape(10, 4)}, None, "")


def test_a_file_is_its_own_source(graph_file: Path, rows: Dataset, prove: Prove) -> None:
    source = load(graph_file, rows)
    assert (source.inputs, source.outputs, set(source.digests)) == (("image",), ("score",), {"reference.onnx"})
    assert prove(source, rows).worst == 0


def test_a_folder_with_weights_beside_the_graph(graph_file: Path, rows: Dataset, prove: Prove) -> None:
    source = load(external(graph_file).parent, rows)
    assert set(source.digests) == {"reference.onnx", "weights.bin"}
    assert prove(source, rows).worst == 0


@pytest.mark.parametrize("location", ["../eights.b", "/etc/passwd", "a/../../x.b"])
def test_weights_outside_of_the_folder_are_refused(graph_file: Path, rows: Dataset, location: str) -> None:
    with pytest.raises(BadInput, match="outside the model's folder"):
        load(external(graph_file, location), rows)


def test_weights_behind_a_link_are_refused(graph_file: Path, rows: Dataset, tmp_path: Path) -> None:
    external(graph_file)
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "weights.bin").rename(tmp_path / "elsewhere" / "w")
    (tmp_path / "weights.bin").symlink_to(moved)
    with pytest.raises(BadInput, match="symbolic link"):
        load(graph_file, rows)


def test_weights_that_are_missing_or_short_are_named(graph_file: Path, rows: Dataset, tmp_path: Path) -> None:
    external(graph_file)
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(BadInput, match=r"tensor '\w+' ends beyond 'weights\.bin'"):
        load(graph_file, rows)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(BadInput, match="copy the file there"):
        load(graph_file, rows)


def test_a_file_that_is_too_new_is_evaluated_and_lowered(graph_file: Path, rows: Dataset, prove: Prove) -> None:
    model = onnx.load(graph_file)
    model.opset_import[0].version, model.ir_version = 28, 14
    onnx.save(model, graph_file)
    proof = prove(load(graph_file, rows), rows)
    assert proof.worst < 1e-4
    written = onnx.load(graph_file.parent / "proof" / "reference.onnx")
    assert (baseline.opset(written), written.ir_version) == (baseline.NEWEST_OPSET, baseline.NEWEST_IR)


def test_stale_shapes_are_dropped(graph_file: Path, rows: Dataset, prove: Prove) -> None:
    model = onnx.load(graph_file)
    model.graph.value_info.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, [7, 7]))
    onnx.save(model, graph_file)
    assert prove(load(graph_file, rows), rows).worst == 0


def test_a_fixed_batch_axis_is_freed_with_the_reshape_that_names_it(
    tmp_path: Path, table: Dataset, prove: Prove
) -> None:
    proof = prove(load(fixed(tmp_path / "m.onnx", [2], [1, 2, 2]), table), table)
    assert proof.worst == 0
    assert [size for size, _ in proof.differences] == [1, 2, 8]
    assert any("'fold'" in line for line in proof.messages)


def test_a_batch_axis_that_cannot_be_freed_keeps_its_size(tmp_path: Path, table: Dataset, prove: Prove) -> None:
    """The reshape has room for one row and names no batch."""
    source = load(fixed(tmp_path / "m.onnx", [], [4], keepdims=1), table)
    assert source.layout.run_rows == 1
    proof = prove(source, table)
    assert [size for size, _ in proof.differences] == [1]


def test_an_output_without_rows_belongs_to_one_request(tmp_path: Path, table: Dataset, prove: Prove) -> None:
    source = load(fixed(tmp_path / "m.onnx", [2], [2, 2]), table)
    assert source.layout.run_rows == 1
    assert prove(source, table).worst == 0


def test_free_axes_are_those_that_the_file_names(graph_file: Path, rows: Dataset) -> None:
    model = onnx.load(graph_file)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    assert onnx_file.named_axes(model, ("image",)) == (Axis("image", 2, "height"),)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "words"),
    [
        ("image", "float64", (4, 1, 8, 8), r"float64 in the data and float32 in the model: use \.astype"),
        ("image", "float32", (4, 1, 8, 9), r"\[4, 1, 8, 9\] in the data and \[any, 1, 8, 8\]"),
        ("picture", "float32", (4, 1, 8, 8), "'image' is not in the data"),
    ],
)
def test_data_that_does_not_match_is_named(
    graph_file: Path, name: str, dtype: str, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        load(graph_file, Dataset({name: np.zeros(shape, dtype)}, None, ""))


def test_a_folder_has_one_model_or_one_called_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    (tmp_path / "b.onnx").touch()
    with pytest.raises(BadInput, match=r"2 \.onnx files"):
        onnx_file.find(tmp_path)
    (tmp_path / "model.onnx").touch()
    assert onnx_file.find(tmp_path).name == "model.onnx"


def test_a_damaged_file_is_refused(tmp_path: Path, rows: Dataset) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff not onnx")
    with pytest.raises(BadInput, match=r"m\.onnx"):
        load(tmp_path / "m.onnx", rows)
