"""What the tests of optimize share: a small graph, rows for it, and a finished search."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.evaluation.bootstrap import Interval
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import Accuracy
from optimize.package.artifact import Findings
from optimize.package.prepack import PrepackedModel
from optimize.package.profile import OperatorTime
from optimize.passes import PassRecord
from optimize.search.layouts import Layout
from optimize.search.outcome import Outcome, Search
from optimize.search.timing import Cell, Timing
from optimize.sources import SourceModel, baseline, conversion
from optimize.sources.baseline import Proof
from server.tensors import Array


def convolution(path: Path, seed: int = 0) -> Path:
    """``image`` FP32 [batch, 1, 8, 8] through a convolution and a matrix product to ``score`` [batch, 4]."""
    rng = np.random.default_rng(seed)
    weights: dict[str, Array] = {
        "kernel": rng.normal(size=(8, 1, 3, 3)).astype(np.float32),
        "matrix": rng.normal(size=(8 * 64, 4)).astype(np.float32) / 20,
        "shift": rng.normal(size=4).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("Flatten", ["active"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "shift"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    return convolution(tmp_path / "reference.onnx")


@pytest.fixture
def rows() -> Dataset:
    rng = np.random.default_rng(1)
    return Dataset({"image": rng.random((40, 1, 8, 8), dtype=np.float32)}, np.arange(40) % 4, "0" * 64)


@pytest.fixture
def findings(graph_file: Path, rows: Dataset, tmp_path: Path) -> Findings:
    """A search that ended with a faster candidate, which here is the reference's own file, and with one loser."""
    from optimize.evaluation.evaluate import outputs

    same = Accuracy(Interval(0.98, 0.97, 0.99), Interval(0.0, -0.001, 0.002), 40, 1)
    worse = Accuracy(Interval(0.90, 0.88, 0.92), Interval(0.08, 0.06, 0.1), 40, 4)
    cells = {name: Cell(name, 8, 1) for name in ("float32", "fast")}
    record = PassRecord(graph_file, {})
    outcomes = (
        Outcome("float32", "as it is", "slower", False, record, same, None, cells["float32"], Interval(1, 1, 1)),
        Outcome("fast", "quick <b>", "chosen", True, record, same, 40.0, cells["fast"], Interval(2, 1.9, 2.1)),
        Outcome("broken", "wrong", "not accurate enough: too far off", False, record, worse, 1.0),
    )
    timings = {
        Cell(name, size, 1): Timing((size * us,), size * us, size * us * 1.1, 10)
        for name, us in (("float32", 20.0), ("fast", 10.0))
        for size in (1, 8)
    }
    asked = {
        "metric": {"name": "accuracy", "higher_is_better": True},
        "max_drop": {"asked": "1%", "limit": 0.0098},
        "objective": "throughput",
        "data": {"evaluation_rows": 40, "calibration_rows": 8, "split": "8 of them reserved"},
        "measurement": {"rounds": 1, "budget_s": 1.0, "threads": [1]},
    }
    provenance = {
        "command": "python -m optimize here:there",
        "seed": 0,
        "created": "2026-01-01T00:00:00+00:00",
        "hardware": {"cpu": "Abacus 3", "architecture": "x86_64", "flags": ["avx2"], "cores": 2},
        "versions": {"python": "3.11"},
        "source": {"reference": "here:there", "sha256": {"weights": "1" * 64}},
        "evaluation": {"sha256": "0" * 64},
        "calibration": {"sha256": "0" * 64},
    }
    model = tmp_path / "chosen" / "model.onnx"
    model.parent.mkdir()
    shutil.copyfile(graph_file, model)
    return Findings(
        search=Search(outcomes, timings, outputs(graph_file, rows, 8, 1)),
        proof=Proof(((1, 0.0), (8, 1e-7)), ("a warning",)),
        layout=Layout(2, 1, 1000.0),
        layouts=(Layout(1, 1, 500.0), Layout(2, 1, 1000.0)),
        batch_sizes=(1, 8),
        asked=asked,
        finished=PrepackedModel((model,), prepacked=False, plain_ms=1.0, reason="small"),
        provenance=provenance,
        operators=(OperatorTime("float32", "Conv", 12.0, 1), OperatorTime("fast", "Conv", 6.0, 1)),
    )


def proven(source: SourceModel, data: Dataset, directory: Path, sizes: tuple[int, ...] = (1, 2, 8)) -> Proof:
    """What the pipeline does between a loaded source and the search."""
    return baseline.write(conversion.convert(source, data, sizes, directory), directory / "reference.onnx")


Prove = Callable[..., Proof]


@pytest.fixture
def prove(tmp_path: Path) -> Prove:
    """``proven`` in a folder of the test's own."""

    def run(source: SourceModel, data: Dataset, sizes: tuple[int, ...] = (1, 2, 8)) -> Proof:
        directory = tmp_path / "proof"
        directory.mkdir(exist_ok=True)
        return proven(source, data, directory, sizes)

    return run
