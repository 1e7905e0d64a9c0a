"""Calibration: real rows in the shape in which the quantizer asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from server.tensors import Array

from .dataset import Dataset

BATCH = 16
MOST_ROWS = 512
"""More rows do not move the ranges, and the histogram methods keep every activation in memory."""


class Feed:
    """The quantizer's ``CalibrationDataReader``: batches of real rows, then None.

    Batches are all of one size: the histogram methods stack what they collect. At most ``MOST_ROWS`` seeded rows.
    """

    def __init__(self, data: Dataset, seed: int) -> None:
        order = np.random.default_rng(seed).permutation(data.rows)[:MOST_ROWS]
        self.rows = len(order)
        self._data = data.take(order)
        self._batches = self._iterate()

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)

    def rewind(self) -> None:
        self._batches = self._iterate()

    def _iterate(self) -> Iterator[dict[str, Array]]:
        size = min(BATCH, self._data.rows)
        for offset in range(0, self._data.rows - size + 1, size):
            yield self._data.batch(size, offset)
