"""The check against the source: all rows, the worst row of each output, both scores, and warnings."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.errors import NotProven
from optimize.evaluation import dataset, metrics, row_proof, source_check
from optimize.evaluation.dataset import Dataset
from optimize.evaluation.evaluate import allowance
from server.tensors import Array

RNG = np.random.default_rng(0)
ROWS = 400
LABELS = RNG.integers(0, 4, ROWS)
EXACT = np.eye(4, dtype=np.float32)[LABELS]


def test_equal_outputs_are_proven_on_every_row() -> None:
    (found,) = row_proof.prove({"p": EXACT}, {"p": EXACT + np.float32(1e-7)})
    assert (found.rows, found.unequal) == (ROWS, 0)
    assert found.difference < 1e-6


def test_a_single_wrong_row_is_counted_and_named_and_not_averaged_away() -> None:
    other = EXACT.copy()
    other[17, 2] += 0.23
    (found,) = row_proof.prove({"p": EXACT}, {"p": other})
    assert (found.unequal, found.worst) == (1, 17)
    assert found.float32 == pytest.approx(found.source + 0.23)


def test_a_row_is_judged_by_its_own_size_and_not_by_the_largest_row() -> None:
    """A Poisson regressor: one row is a thousand, and a wrong small row is far below its tolerance."""
    source = np.full((ROWS, 1), 0.001, np.float32)
    source[0] = 1000
    other = source.copy()
    other[5] *= 1.23
    (found,) = row_proof.prove({"rate": source}, {"rate": other})
    assert found.unequal == 1
    assert found.worst == 5


@pytest.mark.parametrize(("wrong", "raises"), [(4, False), (5, True)])
def test_more_than_one_percent_of_unequal_rows_is_no_proof(wrong: int, raises: bool) -> None:
    other = EXACT.copy()
    other[:wrong] += 0.5
    if raises:
        with pytest.raises(NotProven, match="5 of 400 rows of output 'p'"):
            row_proof.prove({"p": EXACT}, {"p": other})
    else:
        assert row_proof.prove({"p": EXACT}, {"p": other})[0].unequal == wrong


def test_missing_and_infinite_values_are_equal_to_themselves() -> None:
    special = np.array([[np.nan, 1], [np.inf, -np.inf]], np.float32)
    assert row_proof.prove({"p": special}, {"p": special})[0].unequal == 0
    with pytest.raises(NotProven):
        row_proof.prove({"p": special}, {"p": np.nan_to_num(special)})


def test_every_output_is_compared() -> None:
    found = row_proof.prove({"p": EXACT, "q": LABELS}, {"q": LABELS, "p": EXACT})
    assert [one.output for one in found] == ["p", "q"]


def check(
    source: dict[str, Array], expected: dict[str, Array], labels: Array | None = LABELS
) -> source_check.SourceCheck:
    metric = metrics.METRICS["accuracy" if labels is not None else "cosine"]
    places = np.arange(len(next(iter(source.values())))) if source else np.arange(0)
    return source_check.check(source, places, expected, LABELS, metric, allowance("1%"), 0)


def test_the_sources_own_score_stands_beside_float32s() -> None:
    found = check({"p": EXACT}, {"p": EXACT})
    assert found.score is not None
    assert (found.rows, found.of, found.score.score.value, found.warnings) == (ROWS, ROWS, 1.0, ())


def test_a_score_far_from_the_sources_is_a_warning() -> None:
    """Labels answer to the source; one row in a hundred is unequal, and all of them are decisive."""
    few = 400
    source, labels = np.eye(4, dtype=np.float32)[np.zeros(few, int)], np.zeros(few, int)
    labels[:200] = 1
    other = source.copy()
    other[300:304] = [0, 1, 0, 0]
    found = source_check.check(
        {"p": source}, np.arange(few), {"p": other}, labels, metrics.METRICS["accuracy"], allowance("0.1%"), 0
    )
    assert any("the source's own accuracy" in text for text in found.warnings)
    assert any("4 of 400 rows" in text for text in found.warnings)


def test_a_classifier_at_chance_is_a_warning() -> None:
    found = check({}, {"p": np.roll(EXACT, 1, axis=1)})
    assert len(found.warnings) == 1
    assert "most frequent class" in found.warnings[0]
    assert found.score is None


def test_a_slow_source_is_compared_on_the_rows_that_it_answered() -> None:
    data = Dataset({"x": np.arange(100, dtype=np.float32)[:, None]}, None, "0")
    split = dataset.split(data, None, 0)
    answered = (data.inputs["x"][:40] * 2,)
    source, places = source_check.source_rows(("y",), answered, split)
    assert np.array_equal(source["y"], split.evaluation.inputs["x"][places] * 2)
    assert 20 < len(places) < 40
    whole = dataset.split(data, data, 0)
    source, places = source_check.source_rows(("y",), answered, whole)
    assert np.array_equal(places, np.arange(40))
