"""Metrics, the allowance, and drops that are paired row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimize.errors import BadInput
from optimize.evaluation import evaluate, metrics
from optimize.evaluation.dataset import Dataset
from server.errors import BrokenArtifact
from server.tensors import Array


def answers(*best: int) -> dict[str, Array]:
    return {"p": np.eye(4, dtype=np.float32)[list(best)]}


LABELS = np.array([0, 1, 2, 3])
PERFECT = answers(0, 1, 2, 3)
ONE_WRONG = answers(0, 1, 2, 0)


def test_accuracy_is_the_share_of_labels_found() -> None:
    result = evaluate.compare(metrics.METRICS["accuracy"], ONE_WRONG, PERFECT, LABELS, seed=0)
    assert result.score.value == 0.75
    assert result.drop.value == 0.25
    assert (result.rows, result.differing) == (4, 1)


def test_a_drop_is_positive_when_worse_also_where_less_is_better() -> None:
    exact, off = {"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 4.0])}
    labels = np.array([1.0, 2.0])
    assert evaluate.compare(metrics.METRICS["mse"], off, exact, labels, 0).drop.value == 2.0
    assert evaluate.compare(metrics.METRICS["mae"], off, exact, labels, 0).drop.value == 1.0
    assert evaluate.compare(metrics.METRICS["mae"], exact, off, labels, 0).drop.value == -1.0


def test_agreement_and_cosine_need_no_labels() -> None:
    agreement = evaluate.compare(metrics.metric("agreement", None), ONE_WRONG, PERFECT, None, 0)
    cosine = evaluate.compare(metrics.metric("cosine", None), ONE_WRONG, PERFECT, None, 0)
    assert agreement.score.value == cosine.score.value == 0.75


def test_pairing_makes_the_interval_of_the_drop_narrow() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    reference = answers(*np.where(rng.random(400) < 0.8, labels, (labels + 1) % 4))
    candidate = {"p": reference["p"].copy()}
    candidate["p"][:2] = np.eye(4)[(labels[:2] + 1) % 4]
    result = evaluate.compare(metrics.METRICS["accuracy"], candidate, reference, labels, 0)
    assert result.drop.high - result.drop.low < (result.score.high - result.score.low) / 4


@pytest.mark.parametrize(
    ("text", "score", "limit"),
    [("1%", 0.5, 0.005), ("0.01", 0.5, 0.01), ("0", 0.5, 0.0), (" 2.5 % ", 1.0, 0.025), (".5%", -2.0, 0.01)],
)
def test_percent_is_relative_and_a_number_is_absolute(text: str, score: float, limit: float) -> None:
    assert np.isclose(evaluate.allowance(text).limit(score), limit)


@pytest.mark.parametrize("text", ["", "one", "-1%", "1%%", "nan", "1e9e9"])
def test_an_allowance_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="max-drop"):
        evaluate.allowance(text)


def test_a_metric_needs_to_exist_and_to_have_its_labels() -> None:
    with pytest.raises(BadInput, match="accuracy, f1, auroc, mse, mae, r2, agreement, cosine, detections, top5"):
        metrics.metric("f2", None)
    with pytest.raises(BadInput, match="needs an array 'labels'"):
        metrics.metric("accuracy", None)


def test_a_metric_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metric.py").write_text(
        "def loss(outputs, labels):\n    return abs(outputs['p'][:, 0] - labels)\n\n"
        "loss.lower_is_better = True\n\n"
        "def flat(outputs, labels):\n    return outputs['p'][:3, 0]\n\n"
        "def wild(outputs, labels):\n    return outputs['p'][:, 0] * float('nan')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    loss = metrics.metric("own_metric:loss", LABELS)
    assert not loss.higher_is_better
    assert evaluate.compare(loss, PERFECT, PERFECT, LABELS, 0).score.value == 1.75
    for name, words in (("flat", "one score per row"), ("wild", "not finite")):
        with pytest.raises(BadInput, match=words):
            evaluate.compare(metrics.metric(f"own_metric:{name}", LABELS), PERFECT, PERFECT, LABELS, 0)


def test_labels_that_do_not_fit_the_outputs_are_said() -> None:
    with pytest.raises(BadInput, match="accuracy"):
        evaluate.compare(metrics.METRICS["accuracy"], PERFECT, PERFECT, np.arange(3), 0)


def test_noise_in_decibel() -> None:
    signal = {"y": np.array([10.0, 0.0])}
    assert evaluate.sqnr_db(signal, signal) == float("inf")
    assert np.isclose(evaluate.sqnr_db({"y": np.array([9.0, 0.0])}, signal), 20.0)
    assert np.isclose(evaluate.sqnr_db({"y": np.array([0.0, 0.0])}, signal), 0.0)


def test_all_rows_go_through_the_serving_backend(graph_file: Path, rows: Dataset) -> None:
    whole = evaluate.outputs(graph_file, rows, batch_size=16, threads=1)
    assert whole["score"].shape == (40, 4)
    first = evaluate.outputs(graph_file, rows, batch_size=3, threads=1, limit=7)
    assert np.allclose(first["score"], whole["score"][:7], atol=1e-6)


def test_a_file_that_does_not_load_is_broken(tmp_path: Path, rows: Dataset) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(BrokenArtifact, match=r"broken\.onnx"):
        evaluate.outputs(path, rows, 8, 1)
