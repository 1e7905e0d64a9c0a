"""OpenVINO with free axes from end to end: optimized, written as an artifact, served at lengths of any mix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from optimize import options, pipeline
from optimize.evaluation.dataset import Dataset
from optimize.package import verify
from optimize.progress import Display
from optimize.search import benchmark
from optimize.search.benchmark import Focus, MeasurementConfig, Progress
from optimize.search.candidates import FLOAT32
from optimize.search.timing import Cell, Timing
from server.tensors import Array
from tests.integration.conftest import Serve

WIDTH, WORDS, CLASSES, LONGEST = 16, 50, 4, 24
RNG = np.random.default_rng(0)
TABLE, MATRIX = (RNG.normal(size=size).astype(np.float32) for size in ((WORDS, WIDTH), (WIDTH, CLASSES)))


def text_model(path: Path) -> Path:
    """Tokens and a mask, both [batch, tokens], to the scores of the mean of their vectors."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["counts"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["counts", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "tokens"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "tokens"], ["number"], keepdims=0),
        helper.make_node("Div", ["sum", "number"], ["mean"]),
        helper.make_node("MatMul", ["mean", "matrix"], ["scores"]),
    ]
    weights: dict[str, Array] = {"table": TABLE, "matrix": MATRIX, "last": np.array([2]), "tokens": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "text",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def expected(ids: Array) -> Array:
    found: Array = TABLE[ids].mean(axis=1) @ MATRIX
    return found


def says_openvino(
    paths: Mapping[str, Path], _data: Dataset, config: MeasurementConfig, _progress: Progress, _focus: Focus
) -> dict[Cell, Timing]:
    """Timings in which OpenVINO is twice as fast, whatever this machine is doing."""
    return {
        Cell(name, size, threads): Timing((us,) * 5, us, us, 5)
        for name in paths
        for us in (20.0 if name == FLOAT32 else 10.0,)
        for size in config.batch_sizes
        for threads in config.threads
    }


@pytest.fixture
def artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    ids = RNG.integers(1, WORDS, (40, LONGEST))
    np.savez(tmp_path / "eval.npz", input_ids=ids, attention_mask=np.ones_like(ids))
    source, output = text_model(tmp_path / "text.onnx"), tmp_path / "artifact"
    monkeypatch.setattr(benchmark, "measure", says_openvino)
    given = options.parse(
        [str(source), "--eval", str(tmp_path / "eval.npz"), "--metric", "cosine", "--candidates", "openvino",
         "--objective", "latency", "--batch-sizes", "1,4", "--threads", "1", "--output", str(output)]
    )  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        written = pipeline.run(given, "python -m optimize", Display(Console(file=log)))
    assert (written.manifest.backend, written.manifest.model) == ("openvino", "model.xml")
    assert [spec.shape for spec in written.manifest.spec.inputs] == [(-1, -1), (-1, -1)]
    return output


def test_lengths_and_batches_of_any_mix_are_answered(artifact: Path, serve: Serve) -> None:
    assert verify.verify(artifact).rows == 8
    server = serve(artifact).ready()

    def ask(rows: int, length: int) -> float:
        ids = np.random.default_rng(100 * rows + length).integers(1, WORDS, (rows, length))
        inputs = [
            {"name": name, "datatype": "INT64", "shape": list(array.shape), "data": array.ravel().tolist()}
            for name, array in (("input_ids", ids), ("attention_mask", np.ones_like(ids)))
        ]
        answer = server.post("/v2/models/artifact/infer", json.dumps({"inputs": inputs}).encode())
        assert answer.status == 200, answer.body
        (scores,) = answer.json()["outputs"]
        assert scores["shape"] == [rows, CLASSES]
        return float(np.abs(np.reshape(scores["data"], (rows, CLASSES)) - expected(ids)).max())

    mix = [(rows, length) for length in (1, 3, 7, 16, 24, 40) for rows in (1, 2, 5)] * 3
    with ThreadPoolExecutor(8) as callers:
        differences = list(callers.map(lambda pair: ask(*pair), mix))
    assert max(differences) < 1e-4
