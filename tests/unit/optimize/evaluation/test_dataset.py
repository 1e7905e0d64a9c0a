"""Evaluation data: what is refused with which words, and rows that never serve two purposes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.errors import BadInput
from optimize.evaluation import dataset
from optimize.evaluation.dataset import Dataset


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def numbered(rows: int, start: int = 0) -> Dataset:
    return Dataset({"x": np.arange(start, start + rows, dtype=np.float32)[:, None]}, None, "")


def test_labels_are_kept_apart_from_the_inputs(tmp_path: Path) -> None:
    data = dataset.read(write(tmp_path / "d.npz", x=np.zeros((3, 2), np.float32), labels=np.arange(3)))
    assert list(data.inputs) == ["x"]
    assert data.labels is not None
    assert data.rows == 3
    assert len(data.sha256) == 64


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        pytest.param({"labels": np.arange(3)}, "no input", id="only labels"),
        pytest.param({"x": np.zeros((3, 1)), "y": np.zeros((2, 1))}, "different numbers", id="rows differ"),
        pytest.param({"x": np.zeros((0, 1))}, "no rows", id="empty"),
        pytest.param({"x": np.float32(1)}, "single number", id="no axis"),
        pytest.param({"x": np.zeros(3, np.complex64)}, "complex64", id="a dtype that no model takes"),
        pytest.param({"x": np.array([{}, {}])}, "cannot be read", id="pickled objects"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        dataset.read(write(tmp_path / "d.npz", **arrays))


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    path.write_text("not a zip")
    with pytest.raises(BadInput, match=r"not an \.npz"):
        dataset.read(path)
    with pytest.raises(BadInput, match="does not exist"):
        dataset.read(tmp_path / "absent.npz")


def test_a_batch_starts_over_at_the_end() -> None:
    assert numbered(3).batch(5, offset=2)["x"].ravel().tolist() == [2, 0, 1, 2, 0]


def test_an_input_that_is_missing_is_named() -> None:
    with pytest.raises(BadInput, match="'ids' is not in the data"):
        numbered(3).select(("ids",))


def test_reserved_rows_calibrate_and_are_not_evaluated_on() -> None:
    parts = dataset.split(numbered(100), None, seed=3)
    calibrating = set(parts.calibration.inputs["x"].ravel().tolist())
    judging = set(parts.evaluation.inputs["x"].ravel().tolist())
    assert not calibrating & judging
    assert (len(calibrating), len(judging)) == (20, 80)
    assert "20 of the 100" in parts.note


def test_the_split_follows_its_seed() -> None:
    first, again, other = (dataset.split(numbered(50), None, seed).calibration.inputs["x"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_in_both_files_are_counted() -> None:
    note = dataset.split(numbered(10), numbered(4, start=8), seed=0).note
    assert "2 of them are also evaluation rows" in note


def test_too_few_rows_to_reserve_any() -> None:
    with pytest.raises(BadInput, match="--calibration"):
        dataset.split(numbered(2), None, seed=0)
