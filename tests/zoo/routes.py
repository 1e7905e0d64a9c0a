"""Clients of the zoo: one for each route and format, none of which shares code with the server.

A client writes one request (path, headers, body) and reads the response back into arrays by name. Formats without
dtypes (JSON, CSV) are read into the dtype and shape of the expected output, after their own nesting has been compared.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .model import Tensors
from .record_io import FEATURE_FIELDS, record_body

DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8",
    "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "float16": "FP16", "float32": "FP32",
    "float64": "FP64", "bfloat16": "BF16", "object": "BYTES",
}  # fmt: skip
TRITON = "application/vnd.sagemaker-triton.binary+json"


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a client knows of a model: how its inputs are laid out."""

    rowwise: bool
    """Whether the first axis of every input is the number of rows."""
    folded: bool
    """Whether all axes of the only input but the first have fixed sizes."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request as it goes over the wire."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Expected = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """A route with a format. ``carries`` says whether the format has a place for these tensors at all."""

    name: str
    carries: Callable[[Tensors, Expected, Shapes], bool]
    send: Callable[[str, Tensors, Expected], Sent]
    receive: Callable[[Response, Expected], dict[str, Any]]


def _infer(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}/infer"


def _invoke(model: str) -> str:
    return f"/models/{quote(model, safe='')}/invoke"


def _nested(array: NDArray[Any]) -> Any:
    return array.astype(np.float64).tolist() if array.dtype.name == "bfloat16" else array.tolist()


def _from_nested(found: Any, like: NDArray[Any]) -> NDArray[Any]:
    """Nested lists as an array of the dtype of ``like``; null is NaN."""
    if like.dtype.kind == "O":
        return np.array(found, object)
    if like.dtype.kind == "f" or like.dtype.name == "bfloat16":
        return np.array(found, np.float64).astype(like.dtype)
    array = np.array(found, like.dtype)
    assert array.tolist() == found, f"{found} does not fit {like.dtype}"
    return array


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


# Open Inference Protocol


def _v2_json(model: str, inputs: Tensors, expected: Expected) -> Sent:
    rows = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype.name],
            "shape": array.shape,
            "data": _nested(array.reshape(-1)),
        }
        for name, array in inputs.items()
    ]
    return Sent(_infer(model), {"Content-Type": "application/json"}, _json({"inputs": rows}))


def _v2_json_read(response: Response, expected: Expected) -> dict[str, Any]:
    found = {}
    for row in json.loads(response.body)["outputs"]:
        like = expected[row["name"]]
        assert row["datatype"] == DATATYPES[like.dtype.name], row
        found[row["name"]] = _from_nested(row["data"], like).reshape(row["shape"])
    return found


def _blob(array: NDArray[Any]) -> bytes:
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).tobytes()
    texts = [text.encode() for text in array.reshape(-1)]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _v2_binary_body(inputs: Tensors) -> tuple[bytes, bytes]:
    blobs = [_blob(array) for array in inputs.values()]
    rows = [
        {
            "name": name,
            "datatype": DATATYPES[array.dtype.name],
            "shape": array.shape,
            "parameters": {"binary_data_size": len(blob)},
        }
        for (name, array), blob in zip(inputs.items(), blobs, strict=True)
    ]
    return _json({"inputs": rows, "parameters": {"binary_data_output": True}}), b"".join(blobs)


def v2_binary(model: str, inputs: Tensors, expected: Expected) -> Sent:
    """The protocol's binary tensors, inputs and outputs."""
    head, blobs = _v2_binary_body(inputs)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Sent(_infer(model), headers, head + blobs)


def _v2_through_invoke(model: str, inputs: Tensors, expected: Expected) -> Sent:
    head, blobs = _v2_binary_body(inputs)
    media = f"{TRITON};json-header-size={len(head)}"
    return Sent(_invoke(model), {"Content-Type": media, "Accept": TRITON}, head + blobs)


def v2_binary_read(response: Response, expected: Expected) -> dict[str, Any]:
    """Outputs of a binary response, whether the length of its JSON is in a header or in the media type."""
    media = response.headers.get("content-type", "")
    length = response.headers.get("inference-header-content-length") or media.partition("json-header-size=")[2]
    size = int(length) if length else len(response.body)
    found, at = {}, size
    for row in json.loads(response.body[:size])["outputs"]:
        like = expected[row["name"]]
        assert row["datatype"] == DATATYPES[like.dtype.name], row
        blob = response.body[at : at + row["parameters"]["binary_data_size"]]
        at += len(blob)
        found[row["name"]] = (_texts(blob) if like.dtype.kind == "O" else np.frombuffer(blob, like.dtype)).reshape(
            row["shape"]
        )
    assert at == len(response.body)
    return found


def _texts(blob: bytes) -> NDArray[Any]:
    texts, at = [], 0
    while at < len(blob):
        size = int.from_bytes(blob[at : at + 4], "little")
        texts.append(blob[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return np.array(texts, object)


# JSON of /invocations


def _instances(model: str, inputs: Tensors, expected: Expected) -> Sent:
    if len(inputs) == 1:
        rows = _nested(next(iter(inputs.values())))
    else:
        columns = {name: _nested(array) for name, array in inputs.items()}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Sent(_invoke(model), {"Content-Type": "application/json"}, _json({"instances": rows}))


def _instances_read(response: Response, expected: Expected) -> dict[str, Any]:
    return _rows_read(json.loads(response.body)["predictions"], expected)


def _rows_read(rows: Any, expected: Expected) -> dict[str, Any]:
    """Predictions: one value a row, or one object a row for several outputs (one in all, where rows do not match)."""
    if len(expected) == 1:
        ((name, like),) = expected.items()
        whole = like.ndim > 0 and len(rows) == 1 and np.ndim(rows[0]) == like.ndim
        return {name: _from_nested(rows[0] if whole else rows, like)}
    if len(rows) == 1 and all(np.ndim(rows[0][name]) == like.ndim for name, like in expected.items()):
        return {name: _from_nested(rows[0][name], like) for name, like in expected.items()}
    return {name: _from_nested([row[name] for row in rows], like) for name, like in expected.items()}


def _columns(model: str, inputs: Tensors, expected: Expected) -> Sent:
    named = {name: _nested(array) for name, array in inputs.items()}
    return Sent(_invoke(model), {"Content-Type": "application/json"}, _json({"inputs": named}))


def _columns_read(response: Response, expected: Expected) -> dict[str, Any]:
    found = json.loads(response.body)["outputs"]
    if len(expected) == 1:
        ((name, like),) = expected.items()
        return {name: _from_nested(found, like)}
    return {name: _from_nested(found[name], like) for name, like in expected.items()}


def _json_lines(model: str, inputs: Tensors, expected: Expected) -> Sent:
    sent = _instances(model, inputs, expected)
    lines = [json.dumps(row) for row in json.loads(sent.body)["instances"]]
    headers = {"Content-Type": "application/jsonlines", "Accept": "application/jsonlines"}
    return Sent(sent.path, headers, "\n".join(lines).encode())


def _json_lines_read(response: Response, expected: Expected) -> dict[str, Any]:
    assert response.headers["content-type"].startswith("application/jsonlines")
    return _rows_read([json.loads(line) for line in response.body.splitlines()], expected)


# CSV, npy, npz, RecordIO


def _csv(model: str, inputs: Tensors, expected: Expected) -> Sent:
    (array,) = inputs.values()
    out = io.StringIO(newline="")
    csv.writer(out).writerows(_nested(array.reshape(len(array), -1)))
    return Sent(_invoke(model), {"Content-Type": "text/csv", "Accept": "text/csv"}, out.getvalue().encode())


def _csv_read(response: Response, expected: Expected) -> dict[str, Any]:
    ((name, like),) = expected.items()
    rows = list(csv.reader(io.StringIO(response.body.decode(), newline="")))
    if like.dtype.kind == "O":
        array = np.array(rows, object)
    elif like.dtype.kind == "b":
        array = np.array([[{"true": True, "false": False}[cell.lower()] for cell in row] for row in rows])
    elif like.dtype.kind in "iu":
        array = np.array([[int(cell) for cell in row] for row in rows], like.dtype)
    else:
        array = np.array([[float(cell) for cell in row] for row in rows]).astype(like.dtype)
    return {name: array.reshape(-1) if like.ndim == 1 and array.shape[1:] == (1,) else array}


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """The array in a dtype that npy files hold: strings as fixed-width Unicode."""
    return array.astype(np.str_) if array.dtype.kind == "O" else array


def _npy(model: str, inputs: Tensors, expected: Expected) -> Sent:
    out = io.BytesIO()
    np.save(out, plain(next(iter(inputs.values()))))
    accept = "application/x-npy" if len(expected) == 1 else "application/x-npz"
    return Sent(_invoke(model), {"Content-Type": "application/x-npy", "Accept": accept}, out.getvalue())


def _npy_read(response: Response, expected: Expected) -> dict[str, Any]:
    if len(expected) != 1:
        return _npz_read(response, expected)
    (name,) = expected
    return {name: _objects(np.load(io.BytesIO(response.body)))}


def _objects(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(object) if array.dtype.kind == "U" else array


def _npz(model: str, inputs: Tensors, expected: Expected) -> Sent:
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{name: plain(array) for name, array in inputs.items()})
    headers = {"Content-Type": "application/x-npz", "Accept": "application/x-npz"}
    return Sent(_invoke(model), headers, out.getvalue())


def _npz_read(response: Response, expected: Expected) -> dict[str, Any]:
    with np.load(io.BytesIO(response.body)) as archive:
        return {name: _objects(archive[name]) for name in archive.files}


def _record_io(model: str, inputs: Tensors, expected: Expected) -> Sent:
    headers = {"Content-Type": "application/x-recordio-protobuf", "Accept": "application/x-npz"}
    return Sent(_invoke(model), headers, record_body(inputs))


def _text(model: str, inputs: Tensors, expected: Expected) -> Sent:
    (array,) = inputs.values()
    headers = {"Content-Type": "text/plain; charset=utf-8", "Accept": "application/x-npz"}
    return Sent(_invoke(model), headers, array.reshape(-1)[0].encode())


def _has_numpy_dtypes(inputs: Tensors, expected: Expected) -> bool:
    return all(array.dtype.name != "bfloat16" for array in (*inputs.values(), *expected.values()))


def _in_csv(inputs: Tensors, expected: Expected, shapes: Shapes) -> bool:
    if len(inputs) != 1 or len(expected) != 1 or not (shapes.rowwise and shapes.folded):
        return False
    (array,), (like,) = inputs.values(), expected.values()
    one_column = array.dtype.kind != "O" or array.reshape(len(array), -1).shape[1] == 1
    return one_column and like.ndim in (1, 2) and like.size > 0 and array.size < 100_000


def _lines_match(inputs: Tensors, expected: Expected, shapes: Shapes) -> bool:
    rows = len(next(iter(inputs.values()))) if inputs and shapes.rowwise else -1
    return rows > 0 and all(like.shape[:1] == (rows,) for like in expected.values())


ROUTES: tuple[Route, ...] = (
    Route("v2-json", lambda i, e, s: True, _v2_json, _v2_json_read),
    Route("v2-binary", lambda i, e, s: True, v2_binary, v2_binary_read),
    Route("v2-through-invoke", lambda i, e, s: True, _v2_through_invoke, v2_binary_read),
    Route("instances", lambda i, e, s: s.rowwise, _instances, _instances_read),
    Route("columns", lambda i, e, s: bool(i), _columns, _columns_read),
    Route("jsonlines", _lines_match, _json_lines, _json_lines_read),
    Route("csv", _in_csv, _csv, _csv_read),
    Route("npy", lambda i, e, s: len(i) == 1 and _has_numpy_dtypes(i, e), _npy, _npy_read),
    Route("npz", lambda i, e, s: bool(i) and _has_numpy_dtypes(i, e), _npz, _npz_read),
    Route(
        "recordio",
        lambda i, e, s: (
            s.rowwise and _has_numpy_dtypes(i, e) and all(array.dtype.name in FEATURE_FIELDS for array in i.values())
        ),
        _record_io,
        _npz_read,
    ),
    Route(
        "text",
        lambda i, e, s: (
            len(i) == 1 and all(array.dtype.kind == "O" and array.size == 1 and array.item() for array in i.values())
        ),
        _text,
        _npz_read,
    ),
)
