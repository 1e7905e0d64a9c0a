"""Quality: figures that agree with counting by hand, intervals that hold, and what is no prediction."""

from __future__ import annotations

import numpy as np
import pytest

from container.monitor.errors import MonitorError
from container.monitor.quality import Pairs, compare, from_json, measure, problem_of, row_prediction, to_json


def pairs(predictions: list[object], labels: list[object]) -> Pairs:
    one = Pairs()
    one.add(predictions, labels)
    return one


def test_figures_of_a_classifier_by_hand() -> None:
    figures = measure(pairs([1, 1, 0, 0, 1], ["1", 0, 0, "0", 1.0]), "BinaryClassification")
    assert {name: round(one.value, 4) for name, one in figures.items()} == {
        "accuracy": 0.8, "precision": 0.6667, "recall": 1.0, "f1": 0.8
    }  # fmt: skip


def test_figures_of_many_classes_by_hand() -> None:
    figures = measure(pairs(["a", "b", "c", "a"], ["a", "b", "b", "c"]), "MulticlassClassification")
    assert figures["accuracy"].value == 0.5
    assert figures["weighted_recall"].value == pytest.approx(0.5)
    assert figures["weighted_precision"].value == pytest.approx((0.5 * 1 + 1.0 * 2 + 0 * 1) / 4)


def test_figures_of_a_regression_by_hand() -> None:
    figures = measure(pairs([1.0, 2.0, 4.0], [1, 3, 2]), "Regression")
    assert figures["mae"].value == pytest.approx(1.0)
    assert figures["rmse"].value == pytest.approx((5 / 3) ** 0.5)
    assert figures["r2"].value == pytest.approx(1 - 5 / 2)


@pytest.mark.parametrize("problem", ["BinaryClassification", "Regression"])
def test_the_error_of_a_figure_is_its_spread_over_samples(problem: str) -> None:
    random = np.random.default_rng(1)
    name = "accuracy" if problem == "BinaryClassification" else "mae"
    values, errors = [], []
    for _ in range(60):
        labels = random.integers(0, 2, 400)
        wrong = random.random(400) < 0.2
        figure = measure(pairs(list(labels ^ wrong), list(labels)), problem)[name]
        values.append(figure.value)
        errors.append(figure.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_worse_needs_more_than_chance() -> None:
    random = np.random.default_rng(2)

    def measured(wrong: float, count: int) -> Pairs:
        labels = random.integers(0, 3, count)
        shifted = (labels + (random.random(count) < wrong)) % 3
        return pairs(list(shifted), list(labels))

    before = measure(measured(0.10, 2_000), "MulticlassClassification")
    same = measure(measured(0.10, 500), "MulticlassClassification")
    worse = measure(measured(0.25, 500), "MulticlassClassification")
    assert not any(one.violated for one in compare(before, same))
    assert all(one.violated for one in compare(before, worse))
    assert not any(one.violated for one in compare(worse, before))  # better is no violation


def test_problems_are_told_apart_by_their_labels() -> None:
    assert problem_of(pairs([0], ["yes"])) == "BinaryClassification"
    assert problem_of(pairs([0] * 4, [0, 1, 2, 3])) == "MulticlassClassification"
    assert problem_of(pairs([0.0] * 3, [0.5, 1.25, 2.0])) == "Regression"


def test_a_prediction_is_a_value_or_the_largest_score() -> None:
    assert row_prediction([0.25]) == 0.25
    assert row_prediction([0.1, 0.7, 0.2]) == 1
    assert measure(pairs([0.7, 0.2], [1, 0]), "BinaryClassification")["accuracy"].value == 1.0


def test_rows_that_do_not_match_are_counted() -> None:
    one = pairs([1, 2], [1])
    assert (one.mismatched, one.labels) == (1, [])
    with pytest.raises(MonitorError, match="no captured prediction has a label"):
        measure(one, "Regression")


def test_statistics_come_back_from_their_file() -> None:
    figures = measure(pairs([1.0, 2.0], [1.5, 2.0]), "Regression")
    assert from_json(to_json(figures, "Regression", 2)) == ("Regression", figures)
    with pytest.raises(MonitorError):
        from_json({"version": 0})
