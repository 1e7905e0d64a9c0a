"""Calibration rows: full batches of a seeded choice, and again after a rewind."""

from __future__ import annotations

import numpy as np
import pytest

from optimize.evaluation.dataset import Dataset
from optimize.passes.calibration import BATCH, MOST_ROWS, Feed


def numbered(rows: int) -> Dataset:
    return Dataset({"x": np.arange(rows, dtype=np.float32)}, None, "")


def drain(feed: Feed) -> list[list[float]]:
    batches = []
    while (batch := feed.get_next()) is not None:
        batches.append(batch["x"].tolist())
    return batches


@pytest.mark.parametrize(("rows", "used"), [(5, 5), (BATCH, 16), (40, 32), (5000, MOST_ROWS)])
def test_batches_are_full_and_rows_come_once(rows: int, used: int) -> None:
    feed = Feed(numbered(rows), seed=0)
    batches = drain(feed)
    assert feed.rows == used == len({value for batch in batches for value in batch})
    assert len({len(batch) for batch in batches}) == 1


def test_a_rewind_gives_the_same_again_and_a_seed_another_choice() -> None:
    feed = Feed(numbered(40), seed=0)
    first = drain(feed)
    feed.rewind()
    assert drain(feed) == first
    assert drain(Feed(numbered(40), seed=1)) != first
