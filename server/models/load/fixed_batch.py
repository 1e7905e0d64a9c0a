"""Fixed batches: a model whose tensors all have the same fixed first axis, served for any number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...backends import Session
from ...tensors import Array, ModelSpec, TensorSpec


class FixedBatchSession:
    """Runs ``rows`` rows at a time: fewer are filled up with copies of the last row, whose answers are cut off.

    Never given more rows than that: ``rows`` is the model's largest batch size.
    """

    def __init__(self, session: Session, rows: int) -> None:
        self.session = session
        self.rows = rows
        spec = session.spec
        self.spec = ModelSpec(tuple(map(_any_rows, spec.inputs)), tuple(map(_any_rows, spec.outputs)))

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """As the session's, with 1 to ``rows`` rows."""
        given = len(batch[0])
        if given == self.rows:
            return self.session.run(batch)
        filled = [np.concatenate([array, np.repeat(array[-1:], self.rows - given, axis=0)]) for array in batch]
        return [array[:given] for array in self.session.run(filled)]

    def close(self) -> None:
        self.session.close()


def fixed_rows(spec: ModelSpec) -> int:
    """The one fixed size of the first axis of every tensor; 0 where there is none."""
    sizes = {one.shape[0] if one.shape else 0 for one in (*spec.inputs, *spec.outputs)}
    return max(sizes.pop(), 0) if spec.inputs and len(sizes) == 1 else 0


def _any_rows(one: TensorSpec) -> TensorSpec:
    return replace(one, shape=(-1, *one.shape[1:]))
