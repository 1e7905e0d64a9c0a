"""The baseline: exporter faults are repaired, and specialised graphs are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from optimize.errors import BadInput, ExportFailed, NotProven
from optimize.evaluation.dataset import Dataset
from optimize.sources import Exported, SourceSpec, baseline, conversion, torch_module
from optimize.sources.axes import Probe
from optimize.sources.baseline import Proof
from optimize.sources.conversion import Conversion
from server.tensors import Array


class Line(torch.nn.Module):
    """A linear layer: its exported graph carries stale shapes of the transposed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.line(x)
        return answer


class Embedder(torch.nn.Module):
    """Its output is called like the inner value that the exporter names after the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(16, 8)
        self.line = torch.nn.Linear(8, 4)

    def forward(self, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"embedding": self.line(self.embedding(ids).mean(1))}


class Specialised(torch.nn.Module):
    """Works for two rows and no other number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(2, 3)


def normalized(
    module: torch.nn.Module, data: Dataset, outputs: tuple[str, ...], path: Path, sizes: tuple[int, ...]
) -> Proof:
    request = SourceSpec("tests:model", outputs=outputs)
    source = torch_module.reference_model(request, module, tuple(data.inputs), data, {})
    return baseline.write(conversion.convert(source, data, sizes, path.parent), path)


def answered(path: Path, data: Dataset, sizes: tuple[int, ...]) -> Conversion:
    """A source that returns its input, as ``y``."""
    probes = tuple(Probe(size, {}, data.batch(size)) for size in sizes)
    answers: tuple[tuple[Array, ...], ...] = tuple((probe.inputs["x"],) for probe in probes)
    return Conversion("tests:same", path, ("x",), ("y",), probes, answers, Exported("by hand"), {})


@pytest.fixture
def data() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset({"x": rng.random((6, 3), dtype=np.float32)}, None, "")


def graph(path: Path, batch: str | int, factor: float = 1.0, reshape: int = -1) -> Path:
    """A hand-made graph: ``y = factor * x`` for ``x`` [batch, 3], reshaped to ``reshape`` rows."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Mul", ["x", "factor"], ["scaled"]),
                helper.make_node("Reshape", ["scaled", "shape"], ["y"]),
            ],
            "hand-made",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
            [
                helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
                helper.make_tensor("shape", TensorProto.INT64, [2], [reshape, 3]),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, path)
    return path


def test_the_baseline_is_proven_at_every_batch_size(tmp_path: Path, data: Dataset) -> None:
    path = tmp_path / "r.onnx"
    proof = normalized(Line(), data, ("answer",), path, (1, 2, 8))
    assert [size for size, _ in proof.differences] == [1, 2, 8]
    assert proof.worst < 1e-5
    model = onnx.load(path)
    assert not model.graph.value_info, "stale shapes trip the quantizers"
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.graph.output[0].name == "answer"
    assert model.ir_version <= baseline.NEWEST_IR


def test_an_output_named_like_an_inner_value_is_exported(tmp_path: Path) -> None:
    data = Dataset({"ids": np.arange(12).reshape(4, 3)}, None, "")
    path = tmp_path / "r.onnx"
    normalized(Embedder(), data, (), path, (1, 3))
    assert [output.name for output in onnx.load(path).graph.output] == ["embedding"]


def test_a_batch_axis_that_the_model_fixes_is_explained(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(BadInput, match="is \\[2, 3\\] at batch size 1: axis 0 must be the rows"):
        normalized(Specialised(), data, ("y",), tmp_path / "r.onnx", (1, 2))


def test_duplicate_names_are_refused(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(ExportFailed, match="--outputs"):
        normalized(Line(), data, ("x",), tmp_path / "r.onnx", (1,))


def test_a_graph_that_is_secretly_specialised_is_not_proven(tmp_path: Path, data: Dataset) -> None:
    """Its signature has a free batch axis; inside, it reshapes to two rows."""
    path = graph(tmp_path / "g.onnx", "batch", reshape=2)
    with pytest.raises(NotProven, match="batch size 1"):
        baseline.prove(answered(path, data, (2, 1)), path)


def test_a_graph_that_computes_something_else_is_not_proven(tmp_path: Path, data: Dataset) -> None:
    path = graph(tmp_path / "g.onnx", "batch", factor=1.01)
    with pytest.raises(NotProven, match="'y' of the exported graph differs"):
        baseline.prove(answered(path, data, (1, 2)), path)


def test_equal_outputs_have_no_difference(tmp_path: Path, data: Dataset) -> None:
    path = graph(tmp_path / "g.onnx", "batch")
    assert baseline.prove(answered(path, data, (1, 2)), path).worst == 0


def test_a_fixed_batch_axis_in_the_signature_is_refused(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx", 2))
    with pytest.raises(ExportFailed, match="input 'x' is fixed to 2"):
        baseline.check_signature(model, ("x",), ("y",))


def test_an_input_that_the_export_dropped_is_reported(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx", "batch"))
    with pytest.raises(ExportFailed, match="dropped the input 'mask'"):
        baseline.check_signature(model, ("x", "mask"), ("y",))


def test_an_opset_that_is_too_new_is_lowered(tmp_path: Path, data: Dataset) -> None:
    path = graph(tmp_path / "g.onnx", "batch")
    model = onnx.load(path)
    model.opset_import[0].version, model.ir_version = 28, 14
    lowered = baseline.clean(model)
    assert baseline.opset(lowered) == baseline.NEWEST_OPSET
    onnx.save(lowered, path)
    assert baseline.prove(answered(path, data, (1, 2)), path).worst == 0


def test_an_operator_that_cannot_be_lowered_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"])
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [3], [1.0, 1.0, 1.0])
    made = helper.make_graph([node], "new", faces[:1], faces[1:], [scale])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 99)])
    with pytest.raises(ExportFailed, match=r"opset 99, .*opset_version=23 or less"):
        baseline.clean(model)


def test_a_node_that_needs_native_code_is_named(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx", "batch"))
    model.graph.node[0].domain, model.graph.node[0].name = "com.somebody", "magic"
    with pytest.raises(ExportFailed, match=r"node 'magic' is com\.somebody::Mul"):
        baseline.clean(model)


def test_a_format_version_that_is_too_new_is_lowered(tmp_path: Path) -> None:
    model = onnx.load(graph(tmp_path / "g.onnx", "batch"))
    model.ir_version = baseline.NEWEST_IR + 3
    baseline.clean(model)
    assert model.ir_version == baseline.NEWEST_IR
