"""application/x-recordio-protobuf: one record a row; its features are the inputs, a response's labels the outputs.

A feature has the name of its input, or ``values`` (as SageMaker's tools write) for a model of one input. For a model
without a batch axis one record holds the whole input, and several records are its first axis. A dense tensor fits by
its number of values. A sparse tensor (``keys`` into the flattened row) is filled with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from ..errors import BodyTooLarge, MalformedInput, NotAcceptable
from ..request import Head, Payload
from ..tensors import Array, ModelSpec, TensorSpec, describe_shape
from . import Encoded
from .fitting import DecodePlan, decode_plan, fit
from .nested import shown
from .record_message import Value, read_record, write_record
from .recordio import HEAD_BYTES, MAGIC_BYTES, read_frames, write_frames

_CONTENT_TYPE = b"application/x-recordio-protobuf"
_MAX_EXPANDED_BYTES = 256 * 1024 * 1024
_MAX_RECORDS = 1_000_000
"""Counted before any record is read, which takes about ten microseconds."""
_COUNTED_BYTES = 1_000_000
"""Size of a body up to which its records are counted before it is read."""
_EXACT_IN_FLOAT64 = 1 << 53


class RecordIOProtobuf:
    """Dtypes on the wire are float32, float64, int32 and bytes; casts as for npy, and text as UTF-8 bytes."""

    media_types: tuple[str, ...] = ("application/x-recordio-protobuf",)
    interpreted = True

    def __init__(self, max_expanded_bytes: int = _MAX_EXPANDED_BYTES) -> None:
        """``max_expanded_bytes`` limits the size of all sparse rows of a body together."""
        self._max_expanded_bytes = max_expanded_bytes

    def expanded_bytes(self, body: bytes, spec: ModelSpec) -> int:
        """The size of as many dense rows as there may be records; the limit, if rows have no fixed size. In a large
        body the records are not counted, which takes long: each takes eight bytes or more."""
        row_bytes = 0
        for tensor in spec.inputs:
            if -1 in tensor.shape[1:]:
                return max(len(body), self._max_expanded_bytes)
            row_bytes += prod(tensor.shape[1:]) * tensor.dtype.itemsize
        records = body.count(MAGIC_BYTES) if len(body) <= _COUNTED_BYTES else len(body) // HEAD_BYTES
        return max(len(body), min(records * row_bytes, self._max_expanded_bytes))

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read records. Raises MalformedInput with the record and the byte, UnprocessableInput, or BodyTooLarge."""
        plan = decode_plan(spec)
        columns: list[list[Array]] = [[] for _ in spec.inputs]
        left = self._max_expanded_bytes
        if body.count(MAGIC_BYTES) > _MAX_RECORDS:
            raise BodyTooLarge(f"the body has more than {_MAX_RECORDS} records; send several requests")
        frames = list(read_frames(body))
        if not frames:
            raise MalformedInput("the body is empty; send one record a row")
        by_row = plan.batchable or len(frames) > 1
        for index, (at, frame) in enumerate(frames):
            try:
                for column, (tensor, value) in zip(columns, _arranged(read_record(frame), plan), strict=True):
                    row = _row(value, tensor, tensor.shape[1:] if by_row else tensor.shape, left)
                    left -= row.nbytes if value.keys else 0
                    column.append(row)
            except MalformedInput as error:
                raise MalformedInput(f"record {index} (byte {at}): {error}") from error
        inputs = zip(columns, spec.inputs, strict=True)
        return plan.payload(tuple(_joined(rows, tensor, by_row) for rows, tensor in inputs))

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """Write one record a row, one in all for a model without a batch axis. int64 becomes int32 if all values fit,
        else float64 if it holds all of them exactly.

        Raises NotAcceptable for values that no dtype of the format holds, and unless the outputs have one row for each
        row of input.
        """
        chosen = payload.wanted if payload.wanted is not None else range(len(outputs))
        named = {spec.outputs[index].name: _writable(outputs[index], spec.outputs[index]) for index in chosen}
        if not spec.batchable:
            return write_frames([write_record({key: _value(one) for key, one in named.items()})]), _CONTENT_TYPE, []
        if any(array.shape[:1] != (payload.rows,) for array in named.values()):
            raise NotAcceptable(
                "RecordIO needs one row of output for each row of input, which this model does not give; "
                "ask for application/json"
            )
        records = (write_record({key: _value(one[row]) for key, one in named.items()}) for row in range(payload.rows))
        return write_frames(records), _CONTENT_TYPE, []


def _arranged(features: dict[str, Value], plan: DecodePlan) -> list[tuple[TensorSpec, Value]]:
    """Pairs of an input and its feature, in the order of the inputs."""
    if plan.single is not None and len(features) == 1:
        (name,) = features
        if name == "values":
            return [(plan.single.spec, features[name])]
    return list(zip(plan.spec.inputs, plan.arrange(features), strict=True))


def _row(value: Value, tensor: TensorSpec, tail: tuple[int, ...], left: int) -> Array:
    """A feature as one row, of the shape ``tail`` and the dtype of the record. Raises MalformedInput."""
    values = _dense(value, tensor, tail, left) if value.keys else value.values
    fixed = prod(size for size in tail if size != -1)
    if value.shape and prod(value.shape) == len(values) and TensorSpec("", tensor.dtype, tail).accepts(value.shape):
        return values.reshape(value.shape)
    variable = tail.count(-1)
    fits = len(values) == fixed if not variable else variable == 1 and fixed > 0 and len(values) % fixed == 0
    if not fits:
        raise MalformedInput(f'input "{tensor.name}" has {len(values)} values, expected {describe_shape(tail)} a row')
    return values.reshape(tail)


def _dense(value: Value, tensor: TensorSpec, tail: tuple[int, ...], left: int) -> Array:
    """The dense row of a sparse feature: its values at their keys, zeros elsewhere."""
    size = prod(tail) if -1 not in tail else prod(value.shape) if value.shape else -1
    if size < 0:
        raise MalformedInput(f'input "{tensor.name}" is sparse and of variable size; send its shape')
    if size * value.values.dtype.itemsize > left:
        raise MalformedInput(f'input "{tensor.name}" is sparse and expands beyond the limit; send fewer rows')
    if len(value.keys) != len(value.values):
        raise MalformedInput(f'input "{tensor.name}" has {len(value.keys)} keys for {len(value.values)} values')
    largest = max(value.keys)
    if largest >= size:
        raise MalformedInput(f'input "{tensor.name}" has key {largest}, and {size} values a row')
    if value.values.dtype.kind == "O":
        raise MalformedInput(f'input "{tensor.name}" is bytes with keys; send all values without keys')
    array = np.zeros(size, value.values.dtype)
    array[list(value.keys)] = value.values
    return array


def _joined(rows: list[Array], tensor: TensorSpec, by_row: bool) -> Array:
    """The model's array of all rows, or of the one record that holds the whole input.

    Raises MalformedInput if rows differ in dtype or shape or do not fit the input, and UnprocessableInput.
    """
    first = rows[0]
    for index, row in enumerate(rows):
        if row.shape != first.shape or row.dtype != first.dtype:
            raise MalformedInput(
                f'record {index}: input "{tensor.name}" is {row.dtype.name} {describe_shape(row.shape)}, in record 0 '
                f"it is {first.dtype.name} {describe_shape(first.shape)}"
            )
    array = np.stack(rows) if by_row else first
    if array.dtype.kind == "O":
        array = _texts(array, tensor)
    elif tensor.dtype.numpy.kind == "b" and array.dtype.kind == "i":
        array = _flags(array, tensor)
    return fit(array, tensor)


def _texts(array: Array, tensor: TensorSpec) -> Array:
    if tensor.dtype.numpy.kind != "O":
        raise MalformedInput(f'input "{tensor.name}" is bytes, expected {tensor.dtype.name}')
    texts = np.empty(array.shape, object)
    try:
        texts.reshape(-1)[:] = [raw.decode() for raw in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise MalformedInput(f'input "{tensor.name}" holds bytes that are not text in UTF-8') from error
    return texts


def _flags(array: Array, tensor: TensorSpec) -> Array:
    if ((array != 0) & (array != 1)).any():
        raise MalformedInput(f'input "{tensor.name}": a BOOL is an int32 0 or 1')
    return array.astype(bool)


def _writable(array: Array, tensor: TensorSpec) -> Array:
    """The array in a dtype of the format. Raises NotAcceptable."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "O":
        return array
    if kind == "f":
        return array if size in (4, 8) else array.astype(np.float32)
    if kind == "b" or (kind in "iu" and size < 4) or array.dtype == np.int32:
        return array.astype(np.int32)
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    if low >= -(1 << 31) and high < 1 << 31:
        return array.astype(np.int32)
    if low >= -_EXACT_IN_FLOAT64 and high <= _EXACT_IN_FLOAT64:
        return array.astype(np.float64)
    raise NotAcceptable(
        f'output "{tensor.name}" holds {shown(high if high >= 1 << 31 else low)}, which RecordIO has no dtype for; '
        "ask for application/x-npz"
    )


def _value(row: Array) -> Value:
    """A row as a tensor of the format, with its shape if it has more than one axis."""
    dtype = object if isinstance(row, (str, bytes)) else getattr(row, "dtype", None)
    flat = np.asarray(row, dtype).reshape(-1)
    shape = np.shape(row)
    if flat.dtype.kind == "O":
        raws = np.empty(flat.size, object)
        raws[:] = [one.encode() if isinstance(one, str) else one for one in flat]
        if not all(isinstance(one, bytes) for one in raws):
            raise NotAcceptable("an output of strings holds what is neither text nor bytes")
        return Value(raws)
    return Value(flat, shape=shape if len(shape) > 1 else ())
