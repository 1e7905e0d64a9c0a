"""Token vectors to one vector of the text: the mean or the first token, normalised to length one by default.

Options: ``mode`` (``mean``: over the unmasked tokens, ``cls``: the first token), ``normalize`` (true: divided by the
Euclidean norm).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..artifact import VariableAxis
from ..errors import ModelFailed, UnprocessableInput
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec
from . import BackendOptions
from .options import Options

HIDDEN, MASK = "last_hidden_state", "attention_mask"
SPEC = ModelSpec(
    (TensorSpec(HIDDEN, BY_NAME["FP32"], (-1, -1, -1)), TensorSpec(MASK, BY_NAME["INT64"], (-1, -1))),
    (TensorSpec("embedding", BY_NAME["FP32"], (-1, -1)),),
)
LEAST_NORM = 1e-12


class PoolingSession:
    """Float32 [any, length, width] and a mask [any, length] to float32 [any, width]; masked tokens do not count."""

    __slots__ = ("_mean", "_normalize", "_open", "padding", "sample", "spec")

    def __init__(self, mode: str, normalize: bool) -> None:
        self.spec = SPEC
        self.padding: VariableAxis | None = VariableAxis({HIDDEN: (1, 0.0), MASK: (1, 0.0)})
        self.sample: list[Array] = []
        self._mean = mode == "mean"
        self._normalize = normalize
        self._open = True

    def run(self, batch: Sequence[Array]) -> list[Array]:
        if not self._open:
            raise ModelFailed("this model has been unloaded")
        fits = len(batch) == 2 and all(
            array.dtype == one.dtype.numpy and array.ndim == len(one.shape)
            for array, one in zip(batch, self.spec.inputs, strict=True)
        )
        if not fits or batch[0].shape[:2] != batch[1].shape or not batch[0].shape[1]:
            raise UnprocessableInput("pooling takes float32 [any, length, width] and an int64 mask [any, length]")
        hidden, mask = batch
        if self._mean:
            # A matrix product needs neither a masked copy of the vectors nor a loop.
            weights = (mask != 0).astype(np.float32)
            pooled = np.matmul(weights[:, None, :], hidden)[:, 0]
            pooled /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        else:
            pooled = hidden[:, 0].copy()
        if self._normalize:
            pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), LEAST_NORM)
        return [pooled]

    def close(self) -> None:
        self._open = False


def load(path: Path, options: BackendOptions) -> PoolingSession:  # noqa: ARG001 - the step has no file
    """Create the step. Raises BrokenArtifact for a wrong option."""
    asked = Options(options.options, "pooling")
    session = PoolingSession(asked.choice("mode", ("mean", "cls")), asked.flag("normalize", True))
    asked.finish()
    return session
