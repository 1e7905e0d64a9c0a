"""Static int8: simpler ways when the quantizer raises, and float where tensors of different ranges are joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from optimize import passes
from optimize.errors import BadInput, PassFailed
from optimize.evaluation import evaluate, segments
from optimize.evaluation.dataset import Dataset
from optimize.hardware import detect
from optimize.passes import PASSES, PassJob, static_qdq_from_float32
from server.tensors import Array

MACHINE = detect()
RNG = np.random.default_rng(0)


def detector(path: Path, ratio: float) -> tuple[Path, Dataset]:
    """Boxes up to ``ratio`` times as large as scores, side by side in one output, both from one layer of features."""
    weights: dict[str, Array] = {
        "w": RNG.normal(size=(16, 32)).astype(np.float32) / 4,
        "boxes_w": ratio * RNG.normal(size=(32, 4)).astype(np.float32) / 6,
        "scores_w": RNG.normal(size=(32, 6)).astype(np.float32) / 6,
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["features"], name="neck"),
        helper.make_node("MatMul", ["features", "boxes_w"], ["boxes"], name="box_head"),
        helper.make_node("MatMul", ["features", "scores_w"], ["scores"], name="score_head"),
        helper.make_node("Concat", ["boxes", "scores"], ["joined"], name="join", axis=1),
        helper.make_node("Reshape", ["joined", "shape"], ["y"], name="last"),
    ]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([-1, 10], np.int64), "shape"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, ["batch", 16])],
        [helper.make_tensor_value_info("y", 1, ["batch", 10])], initializers,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path, Dataset({"x": RNG.normal(size=(64, 16)).astype(np.float32)}, None, "0")


def quantized(path: Path, data: Dataset, keep_float: tuple[str, ...] = ()) -> passes.PassRecord:
    workdir = path.parent / "static"
    workdir.mkdir(exist_ok=True)
    job = PassJob(path, workdir, {"calibrate": "minmax"}, data, MACHINE, 0, keep_float)
    return PASSES["static_qdq_from_float32"].load()(job)


def test_scores_survive_beside_boxes(tmp_path: Path) -> None:
    path, data = detector(tmp_path / "f.onnx", 300.0)
    record = quantized(path, data)
    assert record.applied["range_mixers_in_float"] == "joined"
    exact, rough = (evaluate.outputs(file, data, 8, 1) for file in (path, record.path))
    assert segments.worst(rough, exact)[1] > 20


def test_tensors_of_one_range_are_joined_in_int8(tmp_path: Path) -> None:
    path, data = detector(tmp_path / "f.onnx", 1.0)
    assert "range_mixers_in_float" not in quantized(path, data).applied


def test_a_quantizer_that_raises_is_tried_again_in_simpler_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = detector(tmp_path / "f.onnx", 1.0)
    real, tried = static_qdq_from_float32._quantize, []

    def raises_unless_per_tensor(*given) -> None:  # type: ignore[no-untyped-def]
        tried.append(given[3]["per_channel"])
        if given[3]["per_channel"]:
            raise IndexError("list index out of range")
        real(*given)

    monkeypatch.setattr(static_qdq_from_float32, "_quantize", raises_unless_per_tensor)
    record = quantized(path, data)
    assert tried == [True, False]
    assert record.applied["per_channel"] is False
    assert record.applied["simpler_because"] == "IndexError: list index out of range"
    assert evaluate.outputs(record.path, data, 8, 1)["y"].shape == (64, 10)


def test_the_first_error_is_reported_when_all_ways_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = detector(tmp_path / "f.onnx", 1.0)
    errors = iter([ValueError("the first"), KeyError("the second"), RuntimeError("the third")])

    def fails(*_: object) -> None:
        raise next(errors)

    monkeypatch.setattr(static_qdq_from_float32, "_quantize", fails)
    with pytest.raises(PassFailed, match="ValueError: the first"):
        quantized(path, data)


def test_nodes_that_the_user_keeps_in_float_are_known_by_node_or_by_tensor(tmp_path: Path) -> None:
    path, data = detector(tmp_path / "f.onnx", 1.0)
    assert passes.tensors_of(path, ("score_head", "boxes")) == ("scores", "boxes")
    with pytest.raises(BadInput, match="score_head"):
        passes.tensors_of(path, ("scorehead",))
    record = quantized(path, data, passes.tensors_of(path, ("score_head",)))
    graph = onnx.load(record.path).graph
    node = next(node for node in graph.node if node.name == "score_head")
    assert node.input[1] == "scores_w", "its weights are no int8"
