"""Single-row models: every tensor has a first axis of 1, so that requests of several rows are run row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...backends import Session
from ...tensors import Array, ModelSpec, TensorSpec


class SingleRowSession:
    """The session of a model with a fixed batch of one row, whose specs say any number of rows.

    ``run`` takes one row: the largest batch size of such a model is 1, and the scheduler cuts requests.
    """

    def __init__(self, session: Session) -> None:
        spec = session.spec
        self.session = session
        self.spec = ModelSpec(tuple(map(_any_rows, spec.inputs)), tuple(map(_any_rows, spec.outputs)))

    def run(self, batch: Sequence[Array]) -> list[Array]:
        return self.session.run(batch)

    def close(self) -> None:
        self.session.close()


def takes_single_rows(spec: ModelSpec) -> bool:
    """Whether the first axis of every tensor is fixed to 1."""
    return bool(spec.inputs) and all(one.shape[:1] == (1,) for one in (*spec.inputs, *spec.outputs))


def _any_rows(one: TensorSpec) -> TensorSpec:
    return replace(one, shape=(-1, *one.shape[1:]))
