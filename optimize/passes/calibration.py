"""Calibration: real rows in the shape in which the quantizer asks for them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from server.tensors import Array

from ..evaluation.dataset import Dataset

BATCH = 16
MOST_ROWS = 512
"""More rows do not move the ranges, and the histogram methods keep every activation in memory."""


class Feed:
    """The quantizer's ``CalibrationDataReader``: batches of real rows, then None.

    Batches are all of one size, because the histogram methods stack what they collect: of the seeded rows, at most
    ``MOST_ROWS``, those beyond the last full batch are left out. ``rows`` is the number that is used.
    """

    def __init__(self, data: Dataset, seed: int) -> None:
        most = min(data.rows, MOST_ROWS)
        self._size = min(BATCH, most)
        self.rows = most - most % self._size
        self._data = data.take(np.random.default_rng(seed).permutation(data.rows)[: self.rows])
        self._batches = self._iterate()

    def get_next(self) -> dict[str, Array] | None:
        return next(self._batches, None)

    def rewind(self) -> None:
        self._batches = self._iterate()

    def _iterate(self) -> Iterator[dict[str, Array]]:
        for offset in range(0, self.rows, self._size):
            yield self._data.batch(self._size, offset)
