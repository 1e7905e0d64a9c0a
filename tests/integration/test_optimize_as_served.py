"""Whole searches with evidence about serving: independent rows, neighbours in a batch, the source's own score."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from optimize import options, pipeline
from optimize.errors import BadInput
from optimize.progress import Display
from server.artifact import Manifest
from server.tensors import Array

RNG = np.random.default_rng(0)
ROWS, WIDTH, CLASSES = 240, 64, 4
W1, W2 = (RNG.normal(size=size).astype(np.float32) / 8 for size in ((WIDTH, 256), (256, CLASSES)))
ROWS_OF_DATA = RNG.normal(size=(ROWS, WIDTH)).astype(np.float32)
ANSWERS = (np.maximum(ROWS_OF_DATA @ W1, 0) @ W2).argmax(axis=1)


def saved(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Array]) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def perceptron(path: Path) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["score"], name="second"),
    ]
    return saved(path, nodes, {"w1": W1, "w2": W2})


def over_time(path: Path) -> Path:
    """The rows are moments of one series: each adds to those after it."""
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["score"], name="product"),
    ]
    return saved(path, nodes, {"axis": np.array(0, np.int64), "w": W1[:, :CLASSES].copy()})


def searched(source: Path, folder: Path, *more: str, **arrays: Array) -> tuple[Manifest, str]:
    np.savez(folder / "eval.npz", **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
    given = options.parse(
        [str(source), "--eval", str(folder / "eval.npz"), "--output", str(folder / "out"), "--batch-sizes", "1,8",
         "--threads", "1", "--rounds", "3", "--budget", "100s", *more]
    )  # fmt: skip
    said = StringIO()
    written = pipeline.run(given, "the command", Display(Console(file=said, width=400)))
    return written.manifest, said.getvalue()


def test_the_evidence_is_about_all_rows_and_about_neighbours(tmp_path: Path) -> None:
    manifest, said = searched(
        perceptron(tmp_path / "m.onnx"), tmp_path, "--candidates", "dynamic_int8_per_row", "--max-drop", "20%",
        x=ROWS_OF_DATA, labels=ANSWERS + 1,
    )  # fmt: skip
    evidence = manifest.evidence
    assert evidence["metric"]["name"] == "accuracy"
    assert evidence["metric"]["chosen_by"] == "default"
    assert "labels 1 to 4" in evidence["metric"]["about"]
    assert "accuracy, which fits the outputs and labels" in said
    assert evidence["source"]["rows"] == evidence["source"]["of"] == evidence["data"]["evaluation_rows"]
    assert evidence["source"]["score"]["score"]["value"] == 1.0
    assert evidence["source"]["outputs"][0]["unequal"] == 0
    assert manifest.batching is not None
    assert manifest.batching.independent
    judged = {row["name"]: row for row in evidence["candidates"] if row["neighbours"]}
    assert judged["dynamic_int8_per_row"]["neighbours"]["changed"] == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Influence of other rows" in report
    assert "worst row" in report


@pytest.mark.slow
def test_rows_that_are_not_independent_are_declared_so(tmp_path: Path) -> None:
    manifest, said = searched(
        over_time(tmp_path / "m.onnx"), tmp_path, "--candidates", "static_int8", "--metric", "cosine", x=ROWS_OF_DATA
    )
    assert manifest.batching is not None
    assert not manifest.batching.independent
    assert "'score'" in manifest.batching.reason
    assert manifest.batching.batch_sizes == (1,)
    assert "no: output 'score'" in said


def test_labels_that_are_not_understood_are_refused_with_the_shapes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"score float32\[rows, 4\].*--labels"):
        searched(perceptron(tmp_path / "m.onnx"), tmp_path, x=ROWS_OF_DATA, labels=np.array(["cat"] * ROWS))


def test_missing_values_in_the_data_and_nodes_in_float_reach_the_artifact(tmp_path: Path) -> None:
    rows = ROWS_OF_DATA.copy()
    rows[::50, 3] = np.nan
    manifest, _ = searched(
        perceptron(tmp_path / "m.onnx"), tmp_path, "--candidates", "static_int8", "--keep-float", "first", x=rows
    )
    assert [spec.missing for spec in manifest.spec.inputs] == [True]
    with pytest.raises(BadInput, match="no node"):
        searched(perceptron(tmp_path / "m.onnx"), tmp_path, "--keep-float", "none_such", "--force", x=ROWS_OF_DATA)
