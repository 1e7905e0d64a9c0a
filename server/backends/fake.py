"""A model without a model: doubles its input, with planted costs and failures. For tests and for benchmarks.

The file is a small JSON object; all fields are optional::

    {"width": 4, "poison": 666, "spend_us": 0, "spend_us_per_row": 0}

A row that holds the value ``poison`` makes the whole run fail, as a real model's bad index would.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

from ..errors import BrokenArtifact, ModelFailed, UnprocessableInput
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec, describe_shape
from . import BackendOptions


class FakeSession:
    """``outputs = 2 * inputs``, float32 [any, width]."""

    def __init__(self, width: int, poison: float | None, spend_us: float, spend_us_per_row: float) -> None:
        dtype = BY_NAME["FP32"]
        self.spec = ModelSpec((TensorSpec("x", dtype, (-1, width)),), (TensorSpec("y", dtype, (-1, width)),))
        self._poison = poison
        self._spend_us = spend_us
        self._spend_us_per_row = spend_us_per_row
        self._open = True

    def run(self, batch: Sequence[Array]) -> list[Array]:
        if not self._open:
            raise ModelFailed("this model has been unloaded")
        (expected,) = self.spec.inputs
        if len(batch) != 1 or batch[0].dtype != expected.dtype.numpy or not expected.accepts(batch[0].shape):
            raise UnprocessableInput(f"the fake model takes one float32 array {describe_shape(expected.shape)}")
        x = batch[0]
        until_ns = perf_counter_ns() + int(1_000 * (self._spend_us + self._spend_us_per_row * len(x)))
        if self._poison is not None and (x == self._poison).any():
            raise ModelFailed("a row held the poison")
        while perf_counter_ns() < until_ns:
            pass
        return [x * 2]

    def close(self) -> None:
        self._open = False


def load(path: Path, options: BackendOptions) -> FakeSession:  # noqa: ARG001 - threads mean nothing here
    """Raises BrokenArtifact when the file is not such an object."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return FakeSession(
            int(fields.get("width", 4)),
            fields.get("poison"),
            float(fields.get("spend_us", 0)),
            float(fields.get("spend_us_per_row", 0)),
        )
    except OSError as error:
        raise BrokenArtifact(f"cannot read {path.name}: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise BrokenArtifact(f"{path.name} is not a description of a fake model: {error}") from error
