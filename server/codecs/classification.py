"""Classification: the best classes of each row of an output, as the texts ``value:index`` or ``value:index:label``."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..errors import MalformedInput
from ..tensors import BY_NAME, Array, DType, TensorSpec
from .nested import shown

NUMBERS = "iuf"
"""Kinds of the dtypes whose values can be ordered."""


def class_count(value: Any, tensor: TensorSpec) -> int:
    """The number of classes that a request asks of an output, 0 for none. Raises MalformedInput."""
    if value is None or (type(value) is int and value == 0):
        return 0
    if type(value) is not int or value < 0:
        raise MalformedInput(
            f'output "{tensor.name}": classification must be a number of classes, at least 1, got {shown(value)}'
        )
    if tensor.dtype.numpy.kind not in NUMBERS:
        raise MalformedInput(f'output "{tensor.name}" is {tensor.dtype.name}; only numbers have a best class')
    return value


def best_classes(array: Array, tensor: TensorSpec, count: int, batchable: bool) -> tuple[Array, DType]:
    """The ``count`` largest values of each row, or as many as there are, largest first: texts of shape [rows, count].
    With their datatype.

    Of a model without a batch axis all values together are one row, and the shape is [count]. Of equal values the one
    with the lower index is first; NaN is last. Numbers are written with the fewest digits that identify them.
    """
    rows = array.reshape((len(array), prod(array.shape[1:])) if batchable else (1, array.size))
    descending = -rows if rows.dtype.kind == "f" else ~rows  # unsigned integers have no negative
    order = np.argsort(descending, axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(rows, order, axis=1).astype(str)
    labels = tensor.labels
    texts = [
        f"{value}:{index}:{labels[index]}" if index < len(labels) else f"{value}:{index}"
        for value, index in zip(values.ravel().tolist(), order.ravel().tolist(), strict=True)
    ]
    best = np.empty(len(texts), object)
    best[:] = texts
    return best.reshape(order.shape if batchable else order.shape[1:]), BY_NAME["BYTES"]
