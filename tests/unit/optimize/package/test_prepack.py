"""The finish: mapped where that computes the same and loads faster, one plain file everywhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import outputs, sqnr_db
from optimize.package import prepack, profile
from optimize.passes import leveled_from_float32

ROWS = Dataset({"x": np.random.default_rng(0).normal(size=(40, 1024)).astype(np.float32)}, None, "")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A model of 4 MB."""
    matrix = np.random.default_rng(1).normal(size=(1024, 1024)).astype(np.float32) / 32
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1024]) for name in "xy"]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "large", faces[:1], faces[1:], [numpy_helper.from_array(matrix, "w")])
    path = tmp_path / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_mapped_form_is_taken_when_it_loads_faster(
    large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepack, "_loading_ms", lambda path, **_: 10.0 if path == large else 4.0)
    monkeypatch.setattr(prepack, "_pace", lambda *_: 1.0)
    done = prepack.prepack(large, tmp_path / "finished", ROWS, portable=False)
    assert done.prepacked
    assert [file.name for file in done.files] == ["model.onnx", "model.onnx.data"]
    assert (done.plain_ms, done.mapped_ms) == (10.0, 4.0)
    root = tmp_path / "artifact"
    root.mkdir()
    prepack.place(done, root)
    assert sqnr_db(outputs(root / "model.onnx", ROWS, 8, 1), outputs(large, ROWS, 8, 1)) > 100


def test_it_is_not_when_it_does_not(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepack, "_loading_ms", lambda *_, **__: 10.0)
    monkeypatch.setattr(prepack, "_pace", lambda *_: 1.0)
    done = prepack.prepack(large, tmp_path / "finished", ROWS, portable=False)
    assert (done.prepacked, done.files, done.reason) == (False, (large,), "mapping does not load faster")


def test_it_is_not_when_it_runs_slower(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepack, "_pace", lambda *_: 1.5)
    done = prepack.prepack(large, tmp_path / "finished", ROWS, portable=False)
    assert (done.prepacked, done.reason) == (False, "the mapped form takes 1.50 times as long to run")


def test_the_mapped_form_computes_the_same_bits_without_being_optimized_again(graph_file: Path, tmp_path: Path) -> None:
    """A convolution whose activation the first optimization has taken into it, and whose layout it has changed."""
    target = tmp_path / "mapped" / "model.onnx"
    target.parent.mkdir()
    leveled_from_float32.write(graph_file, target, "all")
    written = {node.op_type for node in onnx.load(target, load_external_data=False).graph.node}
    assert "Relu" not in written
    image = Dataset({"image": np.random.default_rng(2).random((9, 1, 8, 8), dtype=np.float32)}, None, "")
    again, not_again, plain = (
        outputs(path, image, 4, 1, optimized=optimized)["score"]
        for path, optimized in ((target, False), (target, True), (graph_file, False))
    )
    assert np.array_equal(again, not_again)
    assert np.array_equal(plain, not_again)


def test_portable_and_small_models_stay_one_file(large: Path, tmp_path: Path, graph_file: Path, rows: Dataset) -> None:
    asked = prepack.prepack(large, tmp_path / "finished", ROWS, portable=True)
    assert (asked.files, asked.reason) == ((large,), "portable was asked for")
    small = prepack.prepack(graph_file, tmp_path / "finished", rows, portable=False)
    assert (small.files, small.prepacked) == ((graph_file,), False)
    assert not (tmp_path / "finished").exists()


def test_time_by_operator_counts_nodes(graph_file: Path, rows: Dataset) -> None:
    found = {row.operator: row for row in profile.operators("float32", graph_file, rows.batch(4))}
    assert any("Conv" in name for name in found)
    assert all(row.run_us >= 0 and row.nodes == 1 for row in found.values())
