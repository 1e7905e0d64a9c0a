"""Every CUDA candidate of the four models runs on the GPU as a whole, after its warm-up only by replays of graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest

from optimize.errors import PassFailed
from optimize.passes import running
from server.tensors import Array

from . import counters, models
from .candidates import ON_CUDA, ROWS, Workshop
from .figures import Figures

RUNS = 3
PROVIDER = "CUDAExecutionProvider"
NOT_APPLICABLE = {
    *((model, "cuda_fused_float16") for model in ("digits", "resnet50", "lstm")),  # nothing to fuse
    *((model, "cuda_bfloat16") for model in ("digits", "resnet50")),  # no kernel for MaxPool of opset 22
}
pytestmark = pytest.mark.timeout(400)  # the first test of a model exports it
EVERY = pytest.mark.parametrize(("model", "candidate"), [(m, c) for m in models.MODELS for c in ON_CUDA])


@pytest.fixture(scope="module", autouse=True)
def _libraries() -> None:
    ort.preload_dlls()


def computed_on_the_cpu(path: Path, optimized: Path) -> list[str]:
    """The nodes on the CPU that make floats, by ONNX Runtime's own assignment and the types in its optimized graph."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.optimized_model_filepath = str(optimized)
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(str(path), settings, providers=[PROVIDER, "CPUExecutionProvider"])
    assert PROVIDER in session.get_providers()
    graph = onnx.shape_inference.infer_shapes(onnx.load(optimized)).graph
    types = {one.name: one.type.tensor_type.elem_type for one in (*graph.value_info, *graph.output)}
    whole = {onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.BOOL}
    harmless = {node.name for node in graph.node if {types.get(name) for name in node.output} <= whole}
    return [
        f"{node.op_type} {node.name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != PROVIDER
        for node in part.get_nodes()
        if node.name not in harmless
    ]


def file_of(workshop: Workshop, model: str, candidate: str) -> Path:
    """The candidate's file; a candidate that does not apply to the model is skipped with the pass's reason."""
    if (model, candidate) not in NOT_APPLICABLE:
        return workshop.on_cuda(model, candidate)
    with pytest.raises(PassFailed) as refused:
        workshop.on_cuda(model, candidate)
    pytest.skip(str(refused.value))


@EVERY
def test_no_node_is_computed_on_the_cpu(
    workshop: Workshop, figures: Figures, tmp_path: Path, model: str, candidate: str
) -> None:
    found = computed_on_the_cpu(file_of(workshop, model, candidate), tmp_path / "optimized.onnx")
    figures.add("compute nodes off the device", len(found))
    assert found == []


def batch_of(model: str, rows: int) -> list[Array]:
    return list(models.MODELS[model].rows(rows).values())


@EVERY
def test_after_the_warm_up_only_graphs_are_launched(
    workshop: Workshop, figures: Figures, model: str, candidate: str
) -> None:
    session: Any = running.open_session(file_of(workshop, model, candidate))
    try:
        warm = counters.read()
        counters.reset()
        for rows in (*ROWS, 3):
            for _ in range(RUNS):
                session.run(batch_of(model, rows))
        seen = counters.read()
        figures.add("launches outside of graphs", seen.kernel_launches)
        figures.add("launches of graphs", seen.graph_launches)
        assert session.graphless == ""
        assert warm.captured_launches > 0
        assert (seen.kernel_launches, seen.captures) == (0, 0)
        assert seen.graph_launches == RUNS * (len(ROWS) + 1)
        assert (seen.device_allocations, seen.host_allocations, seen.pageable_async_copies) == (0, 0, 0)
    finally:
        session.close()
    assert counters.read().refused_in_capture == 0
