"""The example of a model: the inputs of one request that it takes, from its samples or made for its specs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..backends.synthetic import make_inputs
from ..errors import BrokenArtifact
from ..tensors import Array, TensorSpec
from .load.warmup import resized, stored_samples
from .served import ServedModel

MOST_VALUES = 500_000
"""Values of an example; a model that takes more has none."""


@dataclass(frozen=True, slots=True)
class Example:
    """``arrays`` in the order of the model's inputs, one row each where it takes rows. ``stored``: they are real."""

    arrays: list[Array]
    stored: bool


def example(model: ServedModel) -> Example | None:
    """The example of a model; None where it would be too large. Reads files: not for the event loop."""
    spec = model.spec
    if sum(_values(one) for one in spec.inputs) > MOST_VALUES:
        return None
    try:
        stored = stored_samples(spec, model.artifact)
    except BrokenArtifact:  # the files have changed since the load
        stored = None
    if stored is None:
        return Example(make_inputs(spec, 1), stored=False)
    arrays = resized(spec, stored, 1)
    return Example(arrays, stored=True) if sum(one.size for one in arrays) <= MOST_VALUES else None


def _values(spec: TensorSpec) -> int:
    """The values of an input with one row, where variable axes have one place."""
    return prod(abs(axis) for axis in spec.shape)
