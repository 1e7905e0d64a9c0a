"""The gate's figures: scores, paired drops with intervals, and outputs as predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from container.update.errors import UpdateError
from container.update.gate import predictions, scored
from container.update.trial import read_rows

ROWS = 400


def scores_of(labels: np.ndarray, wrong: float, seed: int) -> dict[str, np.ndarray]:
    """Class scores [rows, 3] of a model that is wrong on a share of the rows."""
    random = np.random.default_rng(seed)
    named = (labels + (random.random(len(labels)) < wrong)) % 3
    return {"scores": np.eye(3)[named]}


def test_a_drop_of_accuracy_has_an_interval_around_it() -> None:
    labels = np.random.default_rng(0).integers(0, 3, ROWS)
    before, worse = scores_of(labels, 0.1, 1), scores_of(labels, 0.2, 2)
    found = scored("accuracy", worse, before, labels)
    assert found["score"] == pytest.approx(0.8, abs=0.05)
    assert found["before"] == pytest.approx(0.9, abs=0.05)
    assert found["drop"]["value"] == pytest.approx(found["before"] - found["score"])
    assert 0 < found["drop"]["low"] < found["drop"]["value"] < found["drop"]["high"] < 0.2
    same = scored("accuracy", before, before, labels)["drop"]
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize(("metric", "expected"), [("mae", -1.0), ("rmse", -np.sqrt(2.0))])
def test_scores_of_numbers_are_negative_errors(metric: str, expected: float) -> None:
    labels = np.array([0.5, 1.5, 2.5, 3.5])
    wrong = {"y": labels.reshape(-1, 1) + np.array([[0.0], [2.0], [0.0], [-2.0]])}
    found = scored(metric, wrong, {"y": labels.reshape(-1, 1)}, labels)
    assert found["score"] == pytest.approx(expected)
    assert found["drop"]["value"] == pytest.approx(-expected)


def test_agreement_needs_no_labels() -> None:
    labels = np.arange(90) % 3
    ours, theirs = scores_of(labels, 0.0, 3), scores_of(labels, 0.0, 4)
    assert scored("agreement", ours, theirs, predictions(theirs, None))["drop"]["high"] == 0.0


@pytest.mark.parametrize(
    ("output", "labels", "expected"),
    [
        (np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 0]), [1, 0]),
        (np.array([0.7, 0.2]), np.array([1, 0]), [1, 0]),
        (np.array([[2.0], [0.0]]), np.array([2, 0]), [2, 0]),
        (np.array([3, 1]), np.array([3, 1]), [3, 1]),
        (np.array([0.7, 0.2]), np.array([0.5, 0.25]), [0.7, 0.2]),
        (np.array(["a", "b"]), np.array(["a", "b"]), ["a", "b"]),
    ],
)
def test_outputs_as_predictions(output: np.ndarray, labels: np.ndarray, expected: list[object]) -> None:
    assert predictions({"y": output}, labels).tolist() == expected


def test_outputs_that_are_no_predictions() -> None:
    with pytest.raises(UpdateError, match="no output"):
        predictions({"y": np.zeros((3, 2, 2))}, np.array([1, 2, 3]))


def test_rows_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), labels=np.zeros(2))
    for name in ("a.npz", "none.npz"):
        with pytest.raises(UpdateError, match="--held-out"):
            read_rows(str(tmp_path / name))
