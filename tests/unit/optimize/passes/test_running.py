"""The note beside a file for a GPU: what it was marked with is what opens it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimize.errors import PassFailed
from optimize.evaluation.dataset import Dataset
from optimize.hardware import Hardware
from optimize.package import prepack
from optimize.passes import PassJob, cuda_from_onnx, running
from optimize.passes.running import Running
from server.target import ClosedShapes

MACHINE = Hardware("Abacus 3", "x86_64", (), 2)
TEXTS = Dataset({"ids": np.ones((4, 24), np.int64), "mask": np.ones((4, 24), np.int64)}, None, "")


def texts(path: Path, *axes: str) -> Path:
    """``ids`` and ``mask`` INT64 [batch, *axes], added."""
    faces = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", *axes]) for name in ("ids", "mask", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["ids", "mask"], ["y"])], "texts", faces[:2], faces[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_file_without_a_note_runs_on_the_processor(tmp_path: Path) -> None:
    assert running.of(tmp_path / "model.onnx") == Running("onnxruntime")
    assert not running.on_gpu(tmp_path / "model.xml")
    assert running.of(tmp_path / "model.onnx").opening(2).shapes is None


@pytest.mark.parametrize(("opset", "refused"), [(21, False), (22, True)])
def test_the_pass_for_cuda_refuses_what_the_provider_leaves_to_the_processor(
    tmp_path: Path, opset: int, refused: bool
) -> None:
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 4, 4]) for name in "xy"]
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1])
    graph = helper.make_graph([pool], "pool", faces[:1], faces[1:])
    source = tmp_path / "pool.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), source)
    if refused:
        with pytest.raises(PassFailed, match=r"no CUDA kernel for MaxPool of opset 22"):
            cuda_from_onnx.refuse(source)
    else:
        cuda_from_onnx.refuse(source)


def test_the_pass_for_cuda_closes_rows_and_the_length_of_the_data(tmp_path: Path) -> None:
    source = texts(tmp_path / "source.onnx", "tokens")
    (tmp_path / "work").mkdir()
    job = PassJob(source, tmp_path / "work", {"tf32": True, "rows": "8,1"}, TEXTS, MACHINE, 0)
    path = cuda_from_onnx.apply(job).path
    assert path.read_bytes() == source.read_bytes()
    options = running.of(path).opening(1)
    assert (options.device, options.shapes) == ("cuda", ClosedShapes((1, 8), (24,)))
    assert options.target.options == {"tf32": True, "graphs": True, "cudnn_conv_algo_search": "HEURISTIC"}
    assert options.padding is not None
    assert options.padding.inputs == {"ids": (1, 0.0), "mask": (1, 0.0)}


def test_closed_shapes_have_one_length(tmp_path: Path) -> None:
    with pytest.raises(PassFailed, match=r"free axes \[1, 2\].*--fixed"):
        running.free_length(texts(tmp_path / "two.onnx", "height", "width"), TEXTS)
    assert running.free_length(texts(tmp_path / "none.onnx"), TEXTS) == ({}, 0)
    assert running.closed_lengths(100) == (16, 32, 64, 100)
    assert running.closed_lengths(0) == ()


def test_a_file_for_a_gpu_is_never_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its size: packed graphs hold operators that only processors have."""
    path = texts(tmp_path / "model.onnx", "tokens")
    running.mark(path, Running("onnxruntime_cuda", "cuda", rows=(1,)))
    monkeypatch.setattr(prepack, "_loading_ms", lambda *_, **__: 1.0)
    monkeypatch.setattr(prepack, "SMALLEST_BYTES", 0)
    found = prepack.prepack(path, tmp_path / "packed", TEXTS, portable=False)
    assert (found.files, found.prepacked) == ((path,), False)
    assert "for processors" in found.reason
