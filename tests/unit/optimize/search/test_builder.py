"""The workbench on real files: what is finished is remembered, what cannot be finished loses alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from optimize.errors import BadInput, PassFailed
from optimize.evaluation.dataset import Dataset, Split
from optimize.hardware import Hardware
from optimize.passes import PASSES
from optimize.sandbox import isolation
from optimize.search import builder
from optimize.search.benchmark import MeasurementConfig
from optimize.search.budget import Budget
from optimize.search.builder import LocalBuilder
from optimize.search.candidates import CANDIDATES, PRUNED_VARIANTS
from optimize.search.gpu_candidates import GPU_CANDIDATES
from optimize.search.selection import select
from optimize.sources.axes import Probe
from server.tensors import Array

MACHINE = Hardware("Abacus 3", "x86_64", ("avx2", "avx512_vnni"), 2)
DYNAMIC = next(row for row in CANDIDATES if row.name == "dynamic_int8")
STATIC = next(row for row in CANDIDATES if row.name == "static_int8")


def stand(folder: Path, reference: Path, rows: Dataset, seconds: float = 300) -> LocalBuilder:
    data = Split(rows, rows, "the same")
    budget = Budget(seconds, 0.0, lambda: 0.0, measurement_s=20.0, ends_s=seconds)
    config = MeasurementConfig((1, 8), (1,))
    return builder.set_up(folder, reference, data, MACHINE, config, budget, 8_000_000_000, lambda *_: None)


@pytest.mark.slow
def test_a_finished_candidate_is_not_made_twice(
    tmp_path: Path, graph_file: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stand(tmp_path / "work", graph_file, rows)
    record = first.build(STATIC)
    answers = first.outputs(record.path)

    def nobody(*_: object) -> None:
        raise AssertionError("it was remembered")

    monkeypatch.setattr(isolation, "call", nobody)
    again = stand(tmp_path / "work", graph_file, rows)
    assert again.build(STATIC) == record
    assert np.array_equal(again.outputs(record.path)["score"], answers["score"])
    with pytest.raises(AssertionError, match="it was remembered"):
        again.build(STATIC, ("active",))
    with pytest.raises(AssertionError, match="it was remembered"):
        replace(again, hardware=replace(MACHINE, flags=())).build(STATIC)


def test_layers_are_ranked_and_left_out_by_the_tensor_that_they_make(
    tmp_path: Path, graph_file: Path, rows: Dataset
) -> None:
    built = stand(tmp_path / "work", graph_file, rows)
    ranking = built.sensitivities(built.build(STATIC))
    assert {row.operator for row in ranking} == {"Conv", "Gemm"}
    kept = built.build(STATIC, (ranking[0].tensor,))
    assert kept.applied["kept_in_float"] == ranking[0].tensor


def test_a_candidate_that_needs_too_much_memory_fails_as_a_pass_does(
    tmp_path: Path, graph_file: Path, rows: Dataset
) -> None:
    built = replace(stand(tmp_path / "work", graph_file, rows), memory_bytes=1_000_000)
    with pytest.raises(PassFailed):
        built.build(DYNAMIC)


def test_every_option_of_a_candidate_is_read_by_one_of_its_passes() -> None:
    for row in (*CANDIDATES, *GPU_CANDIDATES, *PRUNED_VARIANTS):
        read = frozenset().union(*(PASSES[name].options for name in row.recipe))
        assert set(row.options) <= read, row.name


def test_candidates_are_asked_for_by_name() -> None:
    assert not any(row.opt_in for row in select((), ()))
    assert [row.name for row in select(("float16", "dynamic_*"), ())] == [
        "dynamic_int8",
        "dynamic_int8_per_channel",
        "dynamic_int8_per_row",
        "float16",
    ]
    with pytest.raises(BadInput, match="matches none of fused"):
        select(("quick",), ())


def test_a_candidate_that_does_not_answer_at_another_length_fails(
    tmp_path: Path, graph_file: Path, rows: Dataset
) -> None:
    """Of the small graph the size of the image is fixed, which is what a specialised candidate looks like."""
    fits = Probe(2, {"side": 8}, rows.batch(2))
    short = Probe(2, {"side": 4}, {"image": np.ones((2, 1, 4, 4), np.float32)})
    built = stand(tmp_path / "work", graph_file, rows)
    path = built.build(STATIC).path
    assert built.check_lengths(path) is None
    assert replace(built, probes=(fits,)).check_lengths(path) is None
    with pytest.raises(PassFailed, match="it does not run at batch size 2, side 4"):
        replace(built, probes=(short,)).check_lengths(path)


def test_candidates_that_begin_alike_share_what_they_begin_with(
    tmp_path: Path, graph_file: Path, rows: Dataset
) -> None:
    pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")
    built = stand(tmp_path / "work", graph_file, rows)
    static = built.build(STATIC)
    made = set((tmp_path / "work" / "candidates").iterdir())
    both = built.build(next(row for row in CANDIDATES if row.name == "openvino_int8"))
    added = set((tmp_path / "work" / "candidates").iterdir()) - made
    assert [path.name for path in added] == [both.path.parent.name], "the int8 graph was there"
    assert static.path.parent in made


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Instead of child processes: what they were asked for."""
    asked: list[object] = []

    def call(*given: object) -> dict[str, Array]:
        asked.append(given)
        return {"score": np.zeros(4)}

    monkeypatch.setattr(isolation, "call", call)
    return asked


@pytest.mark.parametrize(
    "change",
    [
        lambda built: replace(built, data=replace(built.data, calibration=replace(built.data.calibration, sha256="1"))),
        lambda built: replace(built, data=replace(built.data, note="another share of them")),
        lambda built: replace(built, config=replace(built.config, seed=1)),
        lambda built: replace(built, hardware=replace(MACHINE, flags=())),
    ],
    ids=["calibration data", "split", "seed", "processor"],
)
def test_what_a_candidate_is_made_of_makes_it_anew(
    change: Callable[[LocalBuilder], LocalBuilder], tmp_path: Path, graph_file: Path, rows: Dataset
) -> None:
    built = stand(tmp_path / "work", graph_file, rows)
    assert change(built).build(DYNAMIC).path != built.build(DYNAMIC).path


@pytest.mark.parametrize(
    "change",
    [
        lambda built: replace(built, data=replace(built.data, evaluation=replace(built.data.evaluation, sha256="1"))),
        lambda built: replace(built, data=replace(built.data, note="another share of them")),
        lambda built: replace(built, config=replace(built.config, batch_sizes=(1, 4))),
        lambda built: replace(built, config=replace(built.config, threads=(2,))),
    ],
    ids=["evaluation data", "split", "batch sizes", "threads"],
)
def test_what_answers_depend_on_makes_them_anew(
    change: Callable[[LocalBuilder], LocalBuilder],
    tmp_path: Path,
    graph_file: Path,
    rows: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = counted(monkeypatch)
    built = stand(tmp_path / "work", graph_file, rows)
    for _ in range(2):
        built.outputs(built.reference)
    assert len(asked) == 1, "the same is remembered"
    change(built).outputs(built.reference)
    assert len(asked) == 2


def test_a_file_that_another_training_made_has_other_answers(
    tmp_path: Path, graph_file: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(monkeypatch)
    built = stand(tmp_path / "work", graph_file, rows)
    made = tmp_path / "made.onnx"
    for content in (b"first", b"first", b"second"):
        made.write_bytes(content)
        built.outputs(made)
    assert len(asked) == 2
