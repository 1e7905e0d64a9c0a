"""Figures that are no mean over rows, against values worked out by hand or by the book."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.errors import BadInput
from optimize.evaluation import metrics
from optimize.evaluation.evaluate import Accuracy, compare
from optimize.evaluation.metrics import Metric
from server.tensors import Array


def score(metric: Metric, answers: Array, labels: Array, reference: Array | None = None) -> Accuracy:
    base = answers if reference is None else reference
    return compare(metric, {"y": answers}, {"y": base}, labels, seed=0)


def one_hot(classes: list[int], count: int) -> Array:
    return np.eye(count, dtype=np.float32)[classes]


def test_f1_of_two_classes_is_that_of_class_one() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0])
    found = score(metrics.METRICS["f1"], one_hot([1, 1, 0, 1, 0, 0], 2), labels)
    assert found.score.value == pytest.approx(2 / 3)


def test_f1_of_more_classes_is_their_mean() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    found = score(metrics.METRICS["f1"], one_hot([0, 0, 1, 0, 2, 2], 3), labels)
    assert found.score.value == pytest.approx((0.8 + 2 / 3 + 1) / 3)


def test_auroc_counts_pairs_in_the_right_order_and_ties_half() -> None:
    labels = np.array([0, 0, 1, 1])
    assert score(metrics.METRICS["auroc"], np.array([0.1, 0.4, 0.35, 0.8]), labels).score.value == 0.75
    assert score(metrics.METRICS["auroc"], np.array([0.5, 0.5, 0.5, 0.5]), labels).score.value == 0.5
    two_columns = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])
    assert score(metrics.METRICS["auroc"], two_columns, labels).score.value == 0.75


def test_r2_of_perfect_and_of_mean_answers() -> None:
    labels = np.array([1.0, 2.0, 3.0, 4.0])
    assert score(metrics.METRICS["r2"], labels, labels).score.value == 1.0
    assert score(metrics.METRICS["r2"], np.full(4, 2.5), labels).score.value == 0.0


def test_top_k_looks_at_the_largest_ones() -> None:
    answers = np.array([[0.1, 0.5, 0.4], [0.7, 0.2, 0.1]])
    assert score(metrics.metric("top2", np.zeros(2)), answers, np.array([2, 2])).score.value == 0.5
    with pytest.raises(BadInput, match="needs 5 classes"):
        score(metrics.metric("top5", np.zeros(2)), answers, np.array([2, 2]))


def test_a_model_that_names_its_class_is_understood() -> None:
    assert score(metrics.METRICS["accuracy"], np.array([3, 1]), np.array([3, 2])).score.value == 0.5


@pytest.mark.parametrize("name", ["f1", "auroc", "r2"])
def test_without_a_difference_there_is_no_drop(name: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    answers = rng.random(100) if name == "r2" else rng.random((100, 2))
    found = score(metrics.METRICS[name], answers, labels)
    assert (found.drop.value, found.drop.low, found.drop.high, found.differing) == (0, 0, 0, 0)


def test_pairing_narrows_the_drop_of_a_whole_metric() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    reference = labels + rng.normal(size=400)
    found = score(metrics.METRICS["auroc"], reference + 0.05 * rng.normal(size=400), labels, reference)
    assert found.drop.high - found.drop.low < (found.score.high - found.score.low) / 3


def test_a_function_of_all_rows_is_asked_for_every_resample() -> None:
    def worst(got: object, reference: object, labels: Array | None) -> Array:
        assert isinstance(got, dict)
        return np.asarray(np.abs(got["y"] - labels).max())

    metric = Metric("worst", worst, higher_is_better=False)
    labels = np.arange(20.0)
    found = score(metric, labels + 2, labels, labels + 1)
    assert found.score.value == 2.0
    assert found.drop.value == found.drop.low == found.drop.high == 1.0
