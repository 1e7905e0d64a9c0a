"""MLServer's content types of a tensor, where they change what the values are: ``str`` and ``base64``.

The others say how MLServer's runtimes in Python see a tensor (``np``, ``pd``, ``datetime``); here a model gets tensors.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import MalformedInput
from ..tensors import RAW_BYTES, Array, TensorSpec
from .nested import shown

PARAMETER = "content_type"
STRINGS = ("str", "base64")


def without_column(shape: Any, tensor: TensorSpec, parameters: Mapping[str, Any]) -> Any:
    """The shape of a list of texts, which MLServer's clients send as a column [n, 1]; any other shape as it is."""
    column = type(shape) is list and len(shape) == 2 and shape[1] == 1
    if column and len(tensor.shape) == 1 and parameters.get(PARAMETER) in STRINGS:
        return shape[:1]
    return shape


def unpacked(array: Array, tensor: TensorSpec, parameters: Mapping[str, Any]) -> Array:
    """The array with the bytes that its values hold in base64, where they say so; any other array as it is.

    Raises MalformedInput for values that are not base64, or not text where the input is text.
    """
    if parameters.get(PARAMETER) != "base64":
        return array
    if tensor.dtype.numpy.kind != "O":
        raise MalformedInput(f'input "{tensor.name}" is {tensor.dtype.name}; only BYTES are sent as base64')
    found = np.empty(array.size, object)
    for index, value in enumerate(array.reshape(-1).tolist()):
        try:
            raw = binascii.a2b_base64(value, strict_mode=True)
            found[index] = raw if tensor.dtype is RAW_BYTES else raw.decode()
        except ValueError as error:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            raise MalformedInput(
                f'input "{tensor.name}": value {index} is not {"" if tensor.dtype is RAW_BYTES else "text in "}base64, '
                f"as its content_type says; got {shown(text)}"
            ) from error
    return found.reshape(array.shape)


def require_plain(parameters: Mapping[str, Any], output: str) -> None:
    """Raises MalformedInput for an output that is asked for in base64."""
    if parameters.get(PARAMETER) == "base64":
        raise MalformedInput(f"output {output} cannot be written in base64; ask for it with binary_data")
