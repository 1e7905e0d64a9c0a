"""Tensors as raw bytes: little-endian, row-major; each string follows its length (4 bytes)."""

from __future__ import annotations

from math import prod

import numpy as np

from ..errors import MalformedInput, NotAcceptable
from ..tensors import (
    BF16,
    RAW_BYTES,
    Array,
    DType,
    TensorSpec,
    bfloat16_of_float32,
    describe_shape,
    float32_of_bfloat16,
)
from .fitting import check_values

_LENGTH_BYTES = 4


def read_blob(blob: memoryview, shape: tuple[int, ...], tensor: TensorSpec) -> Array:
    """The array of a blob, a read-only view if the bytes are aligned.

    Raises MalformedInput for an impossible size or value, UnprocessableInput for NaN and infinity.
    """
    if tensor.dtype.itemsize == 0:
        return _read_strings(blob, shape, tensor)
    want = prod(shape) * tensor.dtype.itemsize
    if len(blob) != want:
        raise MalformedInput(
            f'input "{tensor.name}" has {len(blob)} bytes, {tensor.dtype.name} {describe_shape(shape)} needs {want}'
        )
    dtype = tensor.dtype.numpy
    if dtype.kind == "b" and len(blob) and (largest := int(np.frombuffer(blob, np.uint8).max())) > 1:
        raise MalformedInput(f'input "{tensor.name}": a BOOL must be a byte 0 or 1, got {largest}')
    array: Array
    if tensor.dtype is BF16:
        array = float32_of_bfloat16(np.ndarray(shape, "<u2", blob))
    else:
        array = np.ndarray(shape, dtype.newbyteorder("<"), blob)
    check_values(array, tensor)
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.aligned:  # np.require needs 1 us to find that
        return array
    return np.require(array, dtype, ("C", "A"))


def write_blob(array: Array, dtype: DType) -> bytes:
    """The bytes of an array of this dtype. Raises NotAcceptable for an object that is neither text nor bytes."""
    if dtype is BF16:
        return bfloat16_of_float32(array).astype("<u2", copy=False).tobytes()
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    parts: list[bytes] = []
    for value in array.reshape(-1).tolist():
        raw = value.encode() if isinstance(value, str) else value
        if not isinstance(raw, bytes):
            raise NotAcceptable(f"an output of strings holds a {type(value).__name__}")
        parts += (len(raw).to_bytes(_LENGTH_BYTES, "little"), raw)
    return b"".join(parts)


def _read_strings(blob: memoryview, shape: tuple[int, ...], tensor: TensorSpec) -> Array:
    values: list[str | bytes] = []
    at = 0
    while at < len(blob):
        end = at + _LENGTH_BYTES + int.from_bytes(blob[at : at + _LENGTH_BYTES], "little")
        if at + _LENGTH_BYTES > len(blob) or end > len(blob):
            raise MalformedInput(
                f'input "{tensor.name}": string {len(values)} does not end within the {len(blob)} bytes'
            )
        raw = blob[at + _LENGTH_BYTES : end]
        try:
            values.append(bytes(raw) if tensor.dtype is RAW_BYTES else str(raw, "utf-8"))
        except UnicodeDecodeError as error:
            raise MalformedInput(f'input "{tensor.name}": string {len(values)} is not UTF-8') from error
        at = end
    if len(values) != prod(shape):
        raise MalformedInput(
            f'input "{tensor.name}" has {len(values)} strings, shape {describe_shape(shape)} needs {prod(shape)}'
        )
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)
