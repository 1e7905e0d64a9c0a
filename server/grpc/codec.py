"""The codec of ModelInfer: serialized requests to arrays, and arrays to serialized responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..codecs import Encoded, body_bytes
from ..codecs.blobs import read_blob, write_blob
from ..codecs.classification import best_classes
from ..codecs.fitting import check_shape, decode_plan
from ..codecs.nested import shown
from ..codecs.open_inference import asked_outputs, require_no_region
from ..errors import MalformedInput, NotAcceptable
from ..request import Head, Payload
from ..tensors import RAW_BYTES, Array, DType, ModelSpec, TensorSpec, describe_shape
from . import wire
from .inference_pb2 import InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse

STYLE = "grpc"
MEDIA_TYPE = "application/grpc"

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of typed contents of each datatype that has one."""

PACKED = frozenset(("BOOL", "FP32", "FP64"))
"""Datatypes whose values lie in a serialized message as they lie in memory."""


@dataclass(frozen=True, slots=True)
class Phrasing:
    """How to write the response: outputs as typed contents, or raw; the number of classes of each output, 0 for its
    values, or nothing where no output has classes."""

    typed: bool
    classes: tuple[int, ...] = ()


RAW, TYPED = Phrasing(typed=False), Phrasing(typed=True)


class InferMessages:
    """Reads requests of raw or of typed contents, as ``interpreted`` says: typed ones are handled value by value."""

    media_types: tuple[str, ...] = (MEDIA_TYPE,)
    expanded_bytes = staticmethod(body_bytes)

    def __init__(self, *, interpreted: bool) -> None:
        self.interpreted = interpreted

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read a serialized ModelInferRequest. Raises MalformedInput or UnprocessableInput."""
        message, raw = wire.opened(body)
        rows = message.inputs
        if raw and len(raw) != len(rows):
            raise MalformedInput(f"the request has {len(rows)} inputs and {len(raw)} raw contents; send one for each")
        plan = decode_plan(spec)
        arrays: dict[str, Array] = {}
        for index, row in enumerate(rows):
            name = row.name
            if name in arrays:
                raise MalformedInput(f"input {shown(name)} is given twice")
            if name not in plan.names:
                raise plan.unknown(name)
            arrays[name] = _read(row, plan.by_name[name].spec, raw[index] if raw else None)
        payload = plan.payload(tuple(plan.arrange(arrays)), STYLE)
        payload.request_id = message.id
        if message.parameters:
            payload.parameters = _values(message.parameters)
        payload.wanted, payload.notes = _wanted(message, payload.parameters or {}, spec)
        return payload

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:
        """Write a serialized ModelInferResponse. Raises NotAcceptable for a dtype that typed contents cannot hold."""
        phrasing = payload.notes if isinstance(payload.notes, Phrasing) else RAW
        response = ModelInferResponse(model_name=name, model_version=version, id=payload.request_id or "")
        raw: list[bytes] = []
        for index in payload.wanted if payload.wanted is not None else range(len(outputs)):
            array, tensor = outputs[index], spec.outputs[index]
            dtype = tensor.dtype
            if phrasing.classes and phrasing.classes[index]:
                array, dtype = best_classes(array, tensor, phrasing.classes[index], decode_plan(spec).batchable)
            row = response.outputs.add()
            row.name, row.datatype = tensor.name, dtype.name
            row.shape.extend(array.shape)
            if phrasing.typed:
                _write_typed(array, tensor.name, dtype, row.contents)
            else:
                raw.append(write_blob(array, dtype))
        return wire.with_raw_outputs(response.SerializeToString(), raw), MEDIA_TYPE.encode(), []


def _read(row: ModelInferRequest.InferInputTensor, tensor: TensorSpec, raw: memoryview | bytes | None) -> Array:
    """The array of one input. ``raw``: its raw contents; None: it has typed ones."""
    if row.datatype != tensor.dtype.name:
        raise MalformedInput(f'input "{tensor.name}" has datatype {shown(row.datatype)}, expected {tensor.dtype.name}')
    shape = tuple(row.shape[:])  # twice as fast as without the copy
    if shape and min(shape) < 0:
        raise MalformedInput(f'input "{tensor.name}": shape must be sizes, got {shown(list(shape))}')
    check_shape(shape, tensor)
    require_no_region(row.parameters, f'input "{tensor.name}"')
    if raw is None:
        return _read_typed(row.contents, shape, tensor)
    if row.HasField("contents") and row.contents.ListFields():
        raise MalformedInput(f'input "{tensor.name}" has contents beside raw_input_contents; send one of them')
    return read_blob(memoryview(raw), shape, tensor)


def _read_typed(contents: InferTensorContents, shape: tuple[int, ...], tensor: TensorSpec) -> Array:
    """The array of typed contents."""
    dtype, name = tensor.dtype, tensor.name
    field = CONTENTS.get(dtype.name)
    if field is None:
        raise MalformedInput(f'input "{name}": {dtype.name} has no typed contents; send raw_input_contents')
    filled = [descriptor.name for descriptor, _ in contents.ListFields()]
    if filled not in ([field], []):
        other = next(one for one in filled if one != field)
        raise MalformedInput(f'input "{name}": the values of {dtype.name} belong in {field}, got {other}')
    values = getattr(contents, field)
    if len(values) != prod(shape):
        raise MalformedInput(
            f'input "{name}": {field} has {len(values)} values, shape {describe_shape(shape)} needs {prod(shape)}'
        )
    if dtype.name in PACKED:
        packed = contents.SerializeToString()
        return read_blob(memoryview(packed)[len(packed) - len(values) * dtype.itemsize :], shape, tensor)
    if dtype.name == "BYTES":
        return _strings(values, shape, tensor)
    return _integers(values, shape, tensor)


def _integers(values: Sequence[int], shape: tuple[int, ...], tensor: TensorSpec) -> Array:
    wide = np.fromiter(values, np.uint64 if tensor.dtype.numpy.kind == "u" else np.int64, len(values))
    array: Array = wide.astype(tensor.dtype.numpy)
    if wide.size and not np.array_equal(array, wide):
        index = int(np.argmax(array != wide))
        raise MalformedInput(
            f'input "{tensor.name}": value {index}, {wide[index]}, is out of the range of {tensor.dtype.name}'
        )
    return array.reshape(shape)


def _strings(values: Sequence[bytes], shape: tuple[int, ...], tensor: TensorSpec) -> Array:
    array = np.empty(len(values), object)
    try:
        array[:] = list(values) if tensor.dtype is RAW_BYTES else [str(one, "utf-8") for one in values]
    except UnicodeDecodeError as error:
        raise MalformedInput(f'input "{tensor.name}" holds a string that is not UTF-8') from error
    return array.reshape(shape)


def _write_typed(array: Array, name: str, dtype: DType, contents: InferTensorContents) -> None:
    field = CONTENTS.get(dtype.name)
    if field is None:
        raise NotAcceptable(f'output "{name}": {dtype.name} has no typed contents; ask for raw ones')
    getattr(contents, field).extend(_elements(array, dtype))


def _elements(array: Array, dtype: DType) -> list[Any]:
    values: list[Any] = array.reshape(-1).tolist()
    if dtype.name != "BYTES":
        return values
    return [one.encode() if isinstance(one, str) else one for one in values]


def _values(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    """The parameters as numbers, texts and booleans. Those without a value are left out."""
    chosen = {key: (one, one.WhichOneof("parameter_choice")) for key, one in parameters.items()}
    return {key: getattr(one, choice) for key, (one, choice) in chosen.items() if choice is not None}


def _wanted(
    message: ModelInferRequest, parameters: Mapping[str, Any], spec: ModelSpec
) -> tuple[tuple[int, ...] | None, Phrasing]:
    """The indices of the outputs that are asked for, None for all, and how to write them.

    Outputs are raw, all of them or none: typed only where the request says that no output is to be binary.
    """
    default = parameters.get("binary_data_output", True)
    if not message.outputs:
        return None, TYPED if default is False else RAW
    asked, classes = asked_outputs([(row.name, _values(row.parameters)) for row in message.outputs], spec)
    typed = all(own.get("binary_data", default) is False for own in asked.values())
    return tuple(asked), Phrasing(typed, classes)
