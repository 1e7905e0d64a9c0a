"""The passes with the real quantizer, and the gate that catches a pass gone wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize import passes
from optimize.errors import PassFailed
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import allowance, outputs, sqnr_db
from optimize.evaluation.metrics import METRICS
from optimize.hardware import Hardware, detect
from optimize.passes import PassJob, PassRecord
from optimize.search.candidates import CANDIDATES, DYNAMIC, FUSED, STATIC, Candidate
from optimize.search.outcome import Rule
from optimize.search.search import search
from optimize.search.sensitivity import Sensitivity
from optimize.search.timing import Cell, Timing
from server.tensors import Array

MACHINE = Hardware("Abacus 3", "x86_64", ("avx2", "avx512_vnni"), 2)
OLD_MACHINE = Hardware("Abacus 1", "x86_64", ("avx2",), 2)
ARM = Hardware("Reed", "aarch64", ("asimddp",), 2)


@pytest.fixture
def job(graph_file: Path, rows: Dataset, tmp_path: Path) -> PassJob:
    workdir = tmp_path / "work"
    workdir.mkdir()
    return PassJob(graph_file, workdir, {}, rows, detect(), seed=0)


METHODS = ("minmax", "percentile", "entropy")
INT8 = [
    row for row in CANDIDATES if "int8" in row.name and row.recipe[-1] in (DYNAMIC, STATIC) and row.recipe[0] != FUSED
]


def apply(job: PassJob, candidate: Candidate) -> PassRecord:
    record = PassRecord(job.reference, {})
    for position, recipe in enumerate(candidate.recipe):
        workdir = job.workdir / str(position) if position else job.workdir
        workdir.mkdir(exist_ok=True)
        kept = job.keep_float if recipe == candidate.recipe[-1] else ()
        step = replace(job, options=candidate.options, reference=record.path, workdir=workdir, keep_float=kept)
        record = passes.PASSES[recipe].load()(step)
    return record


@pytest.mark.parametrize("candidate", INT8, ids=lambda candidate: candidate.name)
def test_every_candidate_of_the_table_stays_close_to_the_reference(
    candidate: Candidate, job: PassJob, rows: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    record = apply(job, candidate)
    assert sqnr_db(outputs(record.path, rows, 8, 1), outputs(job.reference, rows, 8, 1)) > 25
    assert record.applied["reduce_range"] is not job.hardware.has_int8_dot
    assert capfd.readouterr() == ("", ""), "the quantizer's chatter belongs into the record"
    assert {path.name for path in job.workdir.iterdir()} <= {"model.onnx", *(f"ranges-{how}.json" for how in METHODS)}


@pytest.mark.parametrize("candidate", INT8, ids=lambda candidate: candidate.name)
def test_weights_get_seven_bits_where_the_processor_would_saturate(candidate: Candidate, job: PassJob) -> None:
    record = apply(replace(job, hardware=OLD_MACHINE), candidate)
    assert record.applied["reduce_range"] is True
    largest = max(
        int(np.abs(numpy_helper.to_array(tensor).astype(int)).max())
        for tensor in onnx.load(record.path).graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1
    )
    assert largest <= 64


def static() -> Candidate:
    return next(row for row in CANDIDATES if row.name == "static_int8")


@pytest.mark.parametrize(("machine", "sign"), [(MACHINE, "uint8"), (ARM, "int8")])
def test_the_sign_of_activations_follows_the_processor(machine: Hardware, sign: str, job: PassJob) -> None:
    assert apply(replace(job, hardware=machine), static()).applied["activations"] == sign


def test_the_record_counts_the_rows_that_calibrated(job: PassJob) -> None:
    assert apply(job, static()).applied["calibration_rows"] == 32


@pytest.mark.parametrize("candidate", INT8, ids=lambda candidate: candidate.name)
def test_a_graph_without_products_has_nothing_to_quantize(candidate: Candidate, job: PassJob, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", ["image"], ["score"])],
        "plain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1, 8, 8])],
    )
    path = tmp_path / "plain.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    with pytest.raises(PassFailed, match="nothing to quantize"):
        apply(replace(job, reference=path), candidate)


def test_shapes_that_cannot_be_followed_symbolically_are_no_obstacle(
    job: PassJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime.quantization import shape_inference

    real = shape_inference.quant_pre_process

    def gives_up(source: Path, target: Path, skip_symbolic_shape: bool = False) -> None:
        if not skip_symbolic_shape:
            raise Exception("Incomplete symbolic shape inference")
        real(source, target, skip_symbolic_shape=True)

    monkeypatch.setattr(shape_inference, "quant_pre_process", gives_up)
    assert apply(job, static()).applied["symbolic_shape_inference"] is False


def test_a_quantizer_that_fails_says_why_in_one_line_and_leaves_no_files(job: PassJob) -> None:
    incomparable = Dataset({"image": np.zeros((16, 1, 5, 5), np.float32)}, None, "")
    with pytest.raises(PassFailed, match="the quantizer failed with InvalidArgument") as caught:
        apply(replace(job, calibration=incomparable), static())
    assert "\n" not in str(caught.value)
    assert not list(job.workdir.iterdir())


def test_the_gate_refuses_an_int8_model_with_broken_scales(job: PassJob, rows: Dataset) -> None:
    """A real quantized file whose scales of one channel were ruined."""
    record = apply(job, static())
    model = onnx.load(record.path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_scale") and "matrix" in tensor.name:
            ruined = numpy_helper.to_array(tensor) * np.array([1, 1, 1, 40], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(ruined, tensor.name))
    onnx.save(model, record.path)
    labels = outputs(job.reference, rows, 8, 1)["score"].argmax(axis=1)

    class FakeBuilder:
        def build(self, candidate: Candidate, keep_float: tuple[str, ...] = ()) -> PassRecord:
            return replace(record, float_graph=None)

        def outputs(self, path: Path, limit: int | None = None) -> dict[str, Array]:
            return outputs(path, rows, 8, 1, limit)

        def alone(self, path: Path) -> dict[str, Array]:
            return self.outputs(path, 8)

        def served(self, path: Path, limit: int | None = None) -> dict[str, Array]:
            return self.outputs(path, limit)

        def check_lengths(self, path: Path, base: Path | None = None) -> str | None:
            return None

        def sensitivities(self, record: PassRecord) -> list[Sensitivity]:
            return []

        def time_left(self) -> bool:
            return True

        def first_round(self, paths: object, focus: object) -> dict[Cell, Timing]:
            return {}

        def measure(self, paths: object, focus: object) -> dict[Cell, Timing]:
            return {Cell("float32", 1, 1): Timing((1.0,), 1.0, 1.0, 1)}

    rule = Rule(METRICS["accuracy"], allowance("1%"), "throughput", labels, 0)
    found = search(job.reference, [static()], FakeBuilder(), rule, lambda _: None)
    assert found.chosen.name == "float32"
    assert found.outcomes[1].reason.startswith(("not accurate enough: accuracy", "broken: its error is larger"))
