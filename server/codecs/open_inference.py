"""The Open Inference Protocol's infer request and response: JSON, with tensors in JSON or as blobs after it.

The binary layout is the JSON, then one blob for each binary tensor, in order. A header carries the length of the JSON;
through SageMaker, which drops that header, the media type carries it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import MalformedInput, NotAcceptable
from ..request import Head, Headers, Payload
from ..tensors import Array, ModelSpec, TensorSpec, describe_shape
from . import Encoded, body_bytes
from .blobs import read_blob, write_blob
from .classification import best_classes, class_count
from .content_types import require_plain, unpacked, without_column
from .fitting import check_shape, decode_plan
from .json_documents import are_large, dump, parse
from .nested import NestedReader, may_hold_booleans, shown

STYLE = "open_inference"
LENGTH_HEADER = b"inference-header-content-length"
MEDIA_TYPE = "application/vnd.sagemaker-triton.binary+json"
_LENGTH_PARAMETER = "json-header-size"
_NO_BLOBS = memoryview(b"")


@dataclass(frozen=True, slots=True)
class Phrasing:
    """How to write the response: which outputs as blobs, and whether the media type carries the length of the JSON.

    ``classes``: for each output the number of best classes to give in its place, 0 for none; empty for none at all.
    """

    binary: tuple[bool, ...]
    by_media_type: bool
    classes: tuple[int, ...] = ()


class OpenInference:
    """Reads bodies of any Content-Type: clients of this protocol send none, or application/octet-stream."""

    media_types: tuple[str, ...] = (MEDIA_TYPE,)
    interpreted = True
    expanded_bytes = staticmethod(body_bytes)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:
        """Read a request: JSON, JSON with blobs, or (length 0) the bytes of the only input.

        Raises MalformedInput or UnprocessableInput.
        """
        by_media_type = _LENGTH_PARAMETER in parameters
        given = parameters[_LENGTH_PARAMETER] if by_media_type else head.get(LENGTH_HEADER)
        length = len(body) if given is None else _length(given, len(body))
        if length == 0 and given is not None:
            return _read_raw(body, spec, by_media_type)
        document, literals = parse(body if length == len(body) else body[:length])
        blobs = memoryview(body)[length:]
        payload = read_inputs(document, spec, blobs, by_media_type, may_hold_booleans(body[:length]))
        return decode_plan(spec).checked(payload, literals)

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:
        """Write the requested outputs; all of them as blobs for a request of another format.

        NaN and infinity in JSON are ``null``. Raises NotAcceptable if an output in JSON holds bytes that are not text.
        """
        phrasing = payload.notes
        if not isinstance(phrasing, Phrasing):
            phrasing = Phrasing((True,) * len(outputs), by_media_type=True)
        rows, blobs = [], []
        for index in payload.wanted if payload.wanted is not None else range(len(outputs)):
            array, tensor = outputs[index], spec.outputs[index]
            dtype = tensor.dtype
            row: dict[str, Any] = {"name": tensor.name, "datatype": tensor.dtype.name, "shape": array.shape}
            if phrasing.classes and phrasing.classes[index]:
                array, dtype = best_classes(array, tensor, phrasing.classes[index], decode_plan(spec).batchable)
                row |= {"datatype": dtype.name, "shape": array.shape}
            if phrasing.binary[index]:
                blobs.append(write_blob(array, dtype))
                row["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                row["data"] = _json_data(array, tensor)
            rows.append(row)
        reply: dict[str, Any] = {"model_name": name, "model_version": version}
        if payload.request_id is not None:
            reply["id"] = payload.request_id
        reply["outputs"] = rows
        text = dump(reply, are_large(outputs))
        return _framed(text, blobs, phrasing.by_media_type) if blobs else (text, b"application/json", [])


def is_open_inference(document: Any) -> bool:
    """Whether a JSON document follows this protocol: all inputs are objects with a name and a datatype."""
    inputs = document.get("inputs") if type(document) is dict else None
    return (
        type(inputs) is list
        and bool(inputs)
        and all(type(row) is dict and "name" in row and "datatype" in row for row in inputs)
    )


def read_inputs(
    document: Any,
    spec: ModelSpec,
    blobs: memoryview = _NO_BLOBS,
    by_media_type: bool = False,
    booleans: bool = True,
) -> Payload:
    """The payload of a parsed request and the blobs after it. Raises MalformedInput or UnprocessableInput."""
    if type(document) is not dict or type(document.get("inputs")) is not list:
        raise MalformedInput('the body must be a JSON object with "inputs", a list of tensors')
    plan = decode_plan(spec)
    arrays: dict[str, Array] = {}
    taken = 0
    for row in document["inputs"]:
        name = row.get("name") if type(row) is dict else None
        if type(name) is not str:
            raise MalformedInput(f"an input must be an object with a name, got {shown(row)}")
        if name in arrays:
            raise MalformedInput(f"input {shown(name)} is given twice")
        if name not in plan.names:
            raise plan.unknown(name)
        arrays[name], size = _read_tensor(row, plan.by_name[name], blobs[taken:], booleans)
        taken += size
    if taken != len(blobs):
        raise MalformedInput(f"the inputs announce {taken} bytes of binary data, but {len(blobs)} follow the JSON")
    payload = plan.payload(tuple(plan.arrange(arrays)), STYLE)
    payload.parameters = _object(document, "parameters")
    payload.request_id = _request_id(document)
    payload.wanted, payload.notes = _wanted(document, payload.parameters, spec, by_media_type)
    return payload


def _read_tensor(row: dict[str, Any], reader: NestedReader, blob: memoryview, booleans: bool) -> tuple[Array, int]:
    """The array of one tensor, and the number of bytes of ``blob`` that it took."""
    tensor = reader.spec
    if row.get("datatype") != tensor.dtype.name:
        raise MalformedInput(
            f'input "{tensor.name}" has datatype {shown(row.get("datatype"))}, expected {tensor.dtype.name}'
        )
    parameters = _object(row, "parameters")
    shape = without_column(row.get("shape"), tensor, parameters) if parameters else row.get("shape")
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise MalformedInput(f'input "{tensor.name}": shape must be a list of sizes, got {shown(shape)}')
    check_shape(tuple(shape), tensor)
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in row):
        require_no_region(parameters, f'input "{tensor.name}"')
        raise MalformedInput(f'input "{tensor.name}" needs either "data" or the parameter binary_data_size')
    if size is None:
        array = _read_data(row["data"], tuple(shape), reader, booleans)
        return unpacked(array, tensor, parameters) if parameters else array, 0
    if type(size) is not int or not 0 <= size <= len(blob):
        raise MalformedInput(
            f'input "{tensor.name}": binary_data_size is {shown(size)}, and {len(blob)} bytes are left of the body'
        )
    return unpacked(read_blob(blob[:size], tuple(shape), tensor), tensor, parameters), size


def _read_data(data: Any, shape: tuple[int, ...], reader: NestedReader, booleans: bool) -> Array:
    """The array of JSON data: a flat list, or nested lists of exactly this shape."""
    name = reader.spec.name
    if type(data) is not list:
        raise MalformedInput(f'input "{name}": data must be a list, got {shown(data)}')
    if data and type(data[0]) is list:
        array = reader.read(data, booleans)
        if array.shape != shape:
            raise MalformedInput(
                f'input "{name}": data is nested as {describe_shape(array.shape)}, its shape is {describe_shape(shape)}'
            )
        return array
    if len(data) != prod(shape):
        raise MalformedInput(
            f'input "{name}": data has {len(data)} values, shape {describe_shape(shape)} needs {prod(shape)}'
        )
    return reader.read_flat(data, booleans).reshape(shape)


def _read_raw(body: bytes, spec: ModelSpec, by_media_type: bool) -> Payload:
    """The payload of a raw body: one row of the single input. The length gives the size of one more variable axis."""
    plan = decode_plan(spec)
    tensor = spec.inputs[0]
    shape = (1, *tensor.shape[1:]) if tensor.shape[:1] == (-1,) else tensor.shape
    if plan.single is None or shape.count(-1) > 1:
        raise MalformedInput("a raw request needs a model of one input with at most one variable axis; send JSON")
    if tensor.dtype.itemsize == 0:
        array = read_blob(
            memoryview(len(body).to_bytes(4, "little") + body), tuple(max(size, 1) for size in shape), tensor
        )
    else:
        fixed = prod(size for size in shape if size != -1) * tensor.dtype.itemsize
        variable = len(body) // fixed if fixed else 0
        array = read_blob(memoryview(body), tuple(variable if size == -1 else size for size in shape), tensor)
    payload = plan.payload((array,), STYLE)
    payload.notes = Phrasing((True,) * len(spec.outputs), by_media_type)
    return payload


def _wanted(
    document: dict[str, Any], parameters: Mapping[str, Any], spec: ModelSpec, by_media_type: bool
) -> tuple[tuple[int, ...] | None, Phrasing]:
    default = parameters.get("binary_data_output", False) is True
    rows = document.get("outputs")
    if rows is None or rows == []:
        return None, Phrasing((default,) * len(spec.outputs), by_media_type)
    if type(rows) is not list or not all(type(row) is dict for row in rows):
        raise MalformedInput(f'"outputs" must be a list of objects, got {shown(rows)}')
    asked, classes = asked_outputs([(row.get("name"), _object(row, "parameters")) for row in rows], spec)
    for index, own in asked.items():
        require_plain(own, shown(spec.outputs[index].name))
    binary = (asked.get(index, {}).get("binary_data", default) is True for index in range(len(spec.outputs)))
    return tuple(asked), Phrasing(tuple(binary), by_media_type, classes)


def asked_outputs(
    rows: Iterable[tuple[Any, Mapping[str, Any]]], spec: ModelSpec
) -> tuple[dict[int, Mapping[str, Any]], tuple[int, ...]]:
    """The outputs that are asked for by (name, parameters): index to parameters, in the order of the request.

    Also the number of classes of every output of the model, 0 for its values; empty where all are 0. Raises
    MalformedInput.
    """
    index_of = {tensor.name: index for index, tensor in enumerate(spec.outputs)}
    asked: dict[int, Mapping[str, Any]] = {}
    classes = [0] * len(spec.outputs)
    for name, own in rows:
        index = index_of.get(name) if type(name) is str else None
        if index is None or index in asked:
            known = ", ".join(f'"{one}"' for one in index_of)
            raise MalformedInput(f"output {shown(name)} is unknown or asked for twice; the model has {known}")
        require_no_region(own, f"output {shown(name)}")
        classes[index] = class_count(own.get("classification"), spec.outputs[index])
        asked[index] = own
    return asked, tuple(classes) if any(classes) else ()


def require_no_region(parameters: Mapping[str, Any], what: str) -> None:
    """Raises MalformedInput for a tensor in shared memory."""
    if "shared_memory_region" in parameters:
        raise MalformedInput(
            f"{what} names a region of shared memory, which this server does not have; send the values"
        )


def _json_data(array: Array, tensor: TensorSpec) -> Any:
    if array.dtype.kind == "O":
        try:
            return [one.decode() if isinstance(one, bytes) else str(one) for one in array.reshape(-1).tolist()]
        except UnicodeDecodeError as error:
            raise NotAcceptable(f'output "{tensor.name}" is not text; ask for it with binary_data') from error
    return np.ascontiguousarray(array).reshape(-1)


def _framed(text: bytes, blobs: list[bytes], by_media_type: bool) -> Encoded:
    body = b"".join([text, *blobs])
    if by_media_type:
        return body, f"{MEDIA_TYPE};{_LENGTH_PARAMETER}={len(text)}".encode(), []
    headers: Headers = [(LENGTH_HEADER, str(len(text)).encode())]
    return body, b"application/octet-stream", headers


def _length(text: str | bytes, body_bytes: int) -> int:
    raw = text.encode("latin-1", "replace") if isinstance(text, str) else text
    if not raw.isdigit() or len(raw) > 18 or int(raw) > body_bytes:
        raise MalformedInput(
            f"the length of the JSON must be a number of bytes, at most the body's {body_bytes}; "
            f"got {shown(raw.decode('latin-1'))}"
        )
    return int(raw)


def _object(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = row.get(key)
    if value is None:
        return {}
    if type(value) is not dict:
        raise MalformedInput(f'"{key}" must be an object, got {shown(value)}')
    return value


def _request_id(document: dict[str, Any]) -> str | None:
    request_id = document.get("id")
    if request_id is not None and type(request_id) is not str:
        raise MalformedInput(f'"id" must be a string, got {shown(request_id)}')
    return request_id
