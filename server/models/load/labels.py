"""Labels: the names of a model's classes, attached to the outputs that have one value for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ...tensors import ModelSpec, TensorSpec


def with_labels(spec: ModelSpec, labels: Sequence[str]) -> ModelSpec:
    """``spec`` with the labels of the manifest; ``spec`` itself where no output has so many values a row."""
    if not labels:
        return spec
    outputs = tuple(replace(one, labels=tuple(labels)) if _fits(one, len(labels)) else one for one in spec.outputs)
    return replace(spec, outputs=outputs)


def _fits(tensor: TensorSpec, classes: int) -> bool:
    values = prod(tensor.shape[1:] if tensor.shape[:1] == (-1,) else tensor.shape)
    return tensor.dtype.itemsize > 0 and values == classes
