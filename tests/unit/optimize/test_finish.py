"""The finish: mapped where that computes the same and loads faster, one plain file everywhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize import finish, profile
from optimize.dataset import Dataset
from optimize.evaluate import outputs, sqnr_db

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
    monkeypatch.setattr(finish, "_loading_ms", lambda path: 10.0 if path == large else 4.0)
    done = finish.finish(large, tmp_path / "finished", ROWS, portable=False)
    assert done.prepacked
    assert [file.name for file in done.files] == ["model.onnx", "model.onnx.data"]
    assert (done.plain_ms, done.mapped_ms) == (10.0, 4.0)
    root = tmp_path / "artifact"
    root.mkdir()
    finish.place(done, root)
    assert sqnr_db(outputs(root / "model.onnx", ROWS, 8, 1), outputs(large, ROWS, 8, 1)) > 100


def test_it_is_not_when_it_does_not(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish, "_loading_ms", lambda _: 10.0)
    done = finish.finish(large, tmp_path / "finished", ROWS, portable=False)
    assert (done.prepacked, done.files, done.reason) == (False, (large,), "mapping does not load faster")


def test_portable_and_small_models_stay_one_file(large: Path, tmp_path: Path, graph_file: Path, rows: Dataset) -> None:
    asked = finish.finish(large, tmp_path / "finished", ROWS, portable=True)
    assert (asked.files, asked.reason) == ((large,), "portable was asked for")
    small = finish.finish(graph_file, tmp_path / "finished", rows, portable=False)
    assert (small.files, small.prepacked) == ((graph_file,), False)
    assert not (tmp_path / "finished").exists()


def test_time_by_operator_counts_nodes(graph_file: Path, rows: Dataset) -> None:
    found = {row.operator: row for row in profile.operators("float32", graph_file, rows.batch(4))}
    assert any("Conv" in name for name in found)
    assert all(row.run_us >= 0 and row.nodes == 1 for row in found.values())
