"""Planted bad candidates on real files: none passes the gates, and the one with a single bad layer is repaired."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize import passes
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import allowance, outputs
from optimize.evaluation.metrics import METRICS
from optimize.hardware import detect
from optimize.passes import PassJob, PassRecord
from optimize.search import sensitivity
from optimize.search.candidates import STATIC, Candidate
from optimize.search.outcome import Outcome, Rule, Search
from optimize.search.search import search
from optimize.search.sensitivity import Sensitivity
from optimize.search.timing import Cell, Timing
from server.tensors import Array

MACHINE = detect()
WIDTH, CLASSES = 32, 8
PLANTED = Candidate("planted", (STATIC,), "", {"calibrate": "minmax"})


def network(path: Path, outlier: float = 0.0) -> Path:
    """``x`` FP32 [batch, 32] through five layers to ``y`` [batch, 8].

    ``outlier`` adds a huge constant to one column in front of the third layer, and that layer ignores it: in float
    nothing changes, in int8 the column takes the whole range and nothing is left for the others.
    """
    rng = np.random.default_rng(3)
    shift = np.zeros(WIDTH, np.float32)
    shift[0] = outlier
    weights: dict[str, Array] = {f"w{at}": rng.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 5 for at in range(4)}
    weights["w2"][0] = 0
    weights["w4"] = rng.normal(size=(WIDTH, CLASSES)).astype(np.float32)
    nodes, at = [], "x"
    for layer in range(5):
        if layer == 2:
            nodes.append(helper.make_node("Add", [at, "shift"], ["shifted"], name="add"))
            at = "shifted"
        made = "y" if layer == 4 else f"layer{layer}"
        nodes.append(helper.make_node("MatMul", [at, f"w{layer}"], [made], name=f"matmul{layer}"))
        if layer < 4:
            nodes.append(helper.make_node("Tanh", [made], [f"active{layer}"], name=f"tanh{layer}"))
            at = f"active{layer}"
    constants = [numpy_helper.from_array(array, name) for name, array in (weights | {"shift": shift}).items()]
    faces = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", WIDTH), ("y", CLASSES))
    ]
    graph = helper.make_graph(nodes, "five", faces[:1], faces[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@dataclass
class FakeBuilder:
    """Real passes and real runs; the planted candidate is always said to be twice as fast."""

    reference: Path
    rows: Dataset
    planted: Path | None = None
    built: list[tuple[str, ...]] = field(default_factory=list)

    def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
        if self.planted is not None:
            return PassRecord(self.planted, {})
        self.built.append(keep_float)
        workdir = self.reference.parent / f"build{len(self.built)}"
        workdir.mkdir()
        job = PassJob(self.reference, workdir, candidate.options, self.rows, MACHINE, 0, keep_float)
        return passes.PASSES[candidate.recipe[0]].load()(job)

    def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        return outputs(path, self.rows, 64, 1, limit)

    def alone(self, path: Path) -> dict[str, Array]:
        return self.outputs(path, 8)

    def served(self, path: Path, limit: int | None = None) -> dict[str, Array]:
        return self.outputs(path, limit)

    def check_lengths(self, path: Path, base: Path | None = None) -> str | None:
        return None

    def sensitivities(self, record: PassRecord) -> tuple[Sensitivity, ...]:
        assert record.float_graph is not None
        return sensitivity.rank(record.float_graph, record.path, self.rows)

    def time_left(self) -> bool:
        return True

    def first_round(self, paths: object, focus: object) -> dict[Cell, Timing]:
        raise AssertionError("too few for a first round")

    def measure(self, paths: dict[str, Path], focus: object) -> dict[Cell, Timing]:
        took = {name: 10.0 if name == "float32" else 5.0 for name in paths}
        return {Cell(name, 1, 1): Timing((us,) * 5, us, us, 5) for name, us in took.items()}


@pytest.fixture
def rows() -> Dataset:
    return Dataset({"x": np.random.default_rng(5).normal(size=(256, WIDTH)).astype(np.float32)}, None, "")


def judge(builder: FakeBuilder) -> Search:
    labels = builder.outputs(builder.reference)["y"].argmax(axis=1)
    rule = Rule(METRICS["accuracy"], allowance("10%"), "throughput", labels, 0)
    return search(builder.reference, [PLANTED], builder, rule, lambda _: None)  # type: ignore[arg-type]  # a dict is asked


def lost(found: Search) -> Outcome:
    assert found.chosen.name == "float32"
    return found.outcomes[1]


def quantized(source: Path, rows: Dataset, **options: str) -> Path:
    """A real static int8 file, the second of two passes if ``source`` is one already."""
    workdir = source.parent / "quantized"
    workdir.mkdir()
    job = PassJob(source, workdir, {"calibrate": "minmax", **options}, rows, MACHINE, 0)
    return passes.PASSES[STATIC].load()(job).path


def rescaled(path: Path, factor: float, target: Path) -> Path:
    """Every activation's range cut to ``factor`` of what it was, as a collapsed percentile leaves it."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale") and tensor.name.startswith(("x", "active")):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(model, target)
    return target


def test_a_sound_network_passes(tmp_path: Path, rows: Dataset) -> None:
    assert judge(FakeBuilder(network(tmp_path / "float32.onnx"), rows)).chosen.name == "planted"


def test_a_collapsed_percentile_does_not_pass(tmp_path: Path, rows: Dataset) -> None:
    reference = network(tmp_path / "float32.onnx")
    collapsed = rescaled(quantized(reference, rows), 0.05, tmp_path / "collapsed.onnx")
    assert lost(judge(FakeBuilder(reference, rows, collapsed))).reason.startswith(("broken", "not accurate"))


def test_signed_activations_that_meet_unsigned_zero_points_do_not_pass(tmp_path: Path, rows: Dataset) -> None:
    """What signed defaults do to a file whose ranges were taken for unsigned values: half of every range is lost."""
    reference = network(tmp_path / "float32.onnx")
    model = onnx.load(quantized(reference, rows, activations="int8"))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_zero_point") and tensor.data_type == TensorProto.INT8 and tensor.name[0] in "xa":
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, -128, np.int8), tensor.name))
    onnx.save(model, tmp_path / "signed.onnx")
    found = judge(FakeBuilder(reference, rows, tmp_path / "signed.onnx"))
    assert lost(found).reason.startswith(("broken", "not accurate"))


def test_an_overflow_of_float16_does_not_pass(tmp_path: Path, rows: Dataset) -> None:
    reference = network(tmp_path / "float32.onnx", outlier=1e6)
    model = onnx.load(reference)
    half = [
        helper.make_node("Cast", ["shifted"], ["half"], to=TensorProto.FLOAT16, name="down"),
        helper.make_node("Cast", ["half"], ["back"], to=TensorProto.FLOAT, name="up"),
    ]
    at = next(position for position, node in enumerate(model.graph.node) if node.name == "matmul2")
    model.graph.node[at].input[0] = "back"
    for offset, node in enumerate(half):
        model.graph.node.insert(at + offset, node)
    onnx.save(model, tmp_path / "overflow.onnx")
    assert "not finite" in lost(judge(FakeBuilder(reference, rows, tmp_path / "overflow.onnx"))).reason


def test_a_specialised_batch_axis_does_not_pass(tmp_path: Path, rows: Dataset) -> None:
    reference = network(tmp_path / "float32.onnx")
    model = onnx.load(reference)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "fixed.onnx")
    assert lost(judge(FakeBuilder(reference, rows, tmp_path / "fixed.onnx"))).reason.startswith("failed")


def test_a_layer_that_int8_breaks_is_found_and_kept_in_float(tmp_path: Path, rows: Dataset) -> None:
    builder = FakeBuilder(network(tmp_path / "float32.onnx", outlier=1000.0), rows)
    found = judge(builder)
    first = found.outcomes[1]
    assert first.reason.startswith(("broken", "not accurate"))
    assert first.sensitivities[0].tensor == "layer2", "the planted layer is ranked first"
    assert (first.sensitivities[0].gain_db or 0) > 10
    assert found.chosen.name == "planted_repaired"
    assert found.chosen.about == "planted with 1 of 5 layers in float: layer2"
    assert found.chosen.accuracy is not None
    assert found.chosen.accuracy.drop.high <= 0.1


def test_when_no_layer_may_stay_in_float_it_loses(tmp_path: Path, rows: Dataset) -> None:
    class Deaf(FakeBuilder):
        def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
            return replace(super().build(candidate), applied={})

    found = judge(Deaf(network(tmp_path / "float32.onnx", outlier=1000.0), rows))
    assert "repair did not help: with 2 of 5 layers in float still" in lost(found).reason
