"""Calibration: batches of real rows for the quantizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from server.tensors import Array

from ..evaluation.dataset import Dataset

BATCH = 16
MOST_ROWS = 512
"""More rows hardly change the ranges, and the histogram methods keep every activation in memory."""


class Feed:
    """The quantizer's ``CalibrationDataReader``: batches of real rows, then None.

    All batches have one size, because the histogram methods stack the activations. At most ``MOST_ROWS`` seeded rows
    are used, without those beyond the last full batch. ``rows`` is the number of rows used.
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


def method_of(name: str) -> Any:
    """The quantizer's ``CalibrationMethod`` for ``minmax``, ``percentile`` or ``entropy``. Raises KeyError."""
    from onnxruntime.quantization import CalibrationMethod

    return {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }[name]
