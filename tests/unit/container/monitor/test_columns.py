"""Columns and sketches: statistics that agree with numpy, quantiles within their error, bounded memory, both ways."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from container.monitor.columns import MAX_CATEGORIES, Column, Table, column_of
from container.monitor.errors import MonitorError
from container.monitor.rows import Rows
from container.monitor.sketch import WORKING_K, K, Sketch, distance, from_json


def test_figures_of_numbers_agree_with_numpy_over_chunks() -> None:
    random = np.random.default_rng(1)
    values = random.normal(3, 2, size=10_001)
    column = Column()
    for chunk in np.array_split(values, 7):
        column.add(list(chunk))
    assert column.kind == "Fractional"
    assert column.mean == pytest.approx(values.mean())
    assert column.std_dev == pytest.approx(values.std())
    assert (column.low, column.high, column.numbers) == (values.min(), values.max(), len(values))


@pytest.mark.parametrize("values", [[1.7e308, -1.7e308], [1e200] * 50_000, [1e155, 3.0]])
def test_numbers_whose_squares_are_no_floats_keep_the_statistics_finite(values: list[float]) -> None:
    column = Column()
    column.add(values)
    column.add(values)
    json.dumps(column.to_json("a"), allow_nan=False)
    assert column.numbers == 2 * len(values)
    assert math.isfinite(column.std_dev)


@pytest.mark.parametrize(
    ("values", "kind", "missing"),
    [
        ([1, 2, 3], "Integral", 0),
        (["1", "2"], "Integral", 0),
        ([1.0, 2.0], "Integral", 0),
        ([1, 2.5], "Fractional", 0),
        (["1.5", "2", ""], "Fractional", 1),
        ([True, False], "Integral", 0),
        (["a", "b", None], "String", 1),
        (["a", "1", "b"], "String", 0),
        ([1, 2, "a"], "Integral", 0),
        ([None, "", float("nan"), "NaN", float("inf")], "Unknown", 5),
        ([10**400, 1], "Integral", 0),
        ([["x"], {"y": 1}], "String", 0),
    ],
)
def test_types_and_missing_values(values: list[object], kind: str, missing: int) -> None:
    column = Column()
    column.add(values)
    assert (column.kind, column.missing) == (kind, missing)
    assert column.count == len(values)


@pytest.mark.parametrize("shape", ["sorted", "reversed", "random", "ties"])
def test_quantiles_of_many_numbers_are_within_the_error(shape: str) -> None:
    count = 300_000
    values = np.arange(count, dtype=np.float64)
    if shape == "reversed":
        values = values[::-1].copy()
    if shape == "random":
        np.random.default_rng(2).shuffle(values)
    if shape == "ties":
        values = np.floor(values / 1000)
    sketch = Sketch()
    for chunk in np.array_split(values, 41):
        sketch.add(chunk)
    small = from_json(sketch.reduced().to_json(), count)
    for one in (sketch, small):
        held, weights = one.weighted()
        assert len(held) <= 2 * WORKING_K * 6
        assert abs(weights.sum() / count - 1) < 0.001
        exact = np.searchsorted(np.sort(values), held, side="right") / count
        last = np.append(held[1:] != held[:-1], True)  # of equal values, the last has the rank
        assert np.abs(np.cumsum(weights)[last] / weights.sum() - exact[last]).max() <= one.rank_error
        assert one.rank_error < 0.01
    assert sum(len(level) for level in small.levels) <= K * len(small.levels)


def test_few_numbers_are_kept_exactly() -> None:
    sketch = Sketch()
    sketch.add(np.arange(1_000.0))
    assert sketch.rank_error == 0
    assert from_json(sketch.to_json(), 1_000).rank_error == 0


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    from scipy import stats

    random = np.random.default_rng(3)
    a, b = random.normal(size=900).round(1), random.normal(0.2, size=700).round(1)
    first, second = Sketch(), Sketch()
    first.add(a)
    second.add(b)
    assert distance(first, second)[0] == pytest.approx(stats.ks_2samp(a, b).statistic)


def test_texts_are_counted_up_to_a_bound() -> None:
    column = Column()
    column.add([f"id-{number}" for number in range(MAX_CATEGORIES + 500)])
    assert len(column.categories) == MAX_CATEGORIES
    assert column.uncounted == 500
    again = column_of(column.to_json("id"))
    assert again.present == column.present
    assert again.uncounted == column.present - 200


def test_statistics_come_back_from_their_file() -> None:
    column = Column()
    column.add([*np.random.default_rng(4).normal(size=5_000), None, "junk"])
    again = column_of(column.to_json("x"))
    assert (again.numbers, again.texts, again.missing) == (5_000, 1, 1)
    assert again.mean == pytest.approx(column.mean)
    assert again.std_dev == pytest.approx(column.std_dev)
    assert distance(column.sketch, again.sketch)[0] <= again.sketch.rank_error


@pytest.mark.parametrize(
    "feature",
    [
        {"name": "x", "inferred_type": "Integral", "numerical_statistics": {}},
        {"name": "x", "inferred_type": "Integral", "numerical_statistics": 7},
        {"name": "x", "string_statistics": {"common": {"num_present": "many", "num_missing": 0}}},
    ],
)
def test_statistics_of_another_form_are_one_clear_error(feature: dict[str, object]) -> None:
    with pytest.raises(MonitorError, match="Model Monitor's form"):
        column_of(feature)


def test_a_column_that_some_rows_lack_is_missing_there() -> None:
    table = Table()
    table.add(Rows(("a", "b"), [[1, 2]]))
    table.add(Rows(("a",), [[1], [2]]))
    table.finish()
    assert table.rows == 3
    assert table.columns["b"].missing == 2
