"""Clients of the zoo: one for each route and format, none of which shares code with the server.

A client writes one request (path, headers, body) and reads the response back into arrays by name. Formats without
dtypes (JSON, CSV) are read into the dtype and shape of the expected output, after their own nesting has been compared.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exchange import Expected, Response, Route, Sent, Shapes, from_nested, invoke_path, json_bytes, nested
from .model import Tensors
from .record_io import FEATURE_FIELDS, record_body
from .v2_client import v2_binary, v2_binary_read, v2_json, v2_json_read, v2_through_invoke

# JSON of /invocations


def _instances(model: str, inputs: Tensors, expected: Expected) -> Sent:
    if len(inputs) == 1:
        rows = nested(next(iter(inputs.values())))
    else:
        columns = {name: nested(array) for name, array in inputs.items()}
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Sent(invoke_path(model), {"Content-Type": "application/json"}, json_bytes({"instances": rows}))


def _instances_read(response: Response, expected: Expected) -> dict[str, Any]:
    return _rows_read(json.loads(response.body)["predictions"], expected)


def _rows_read(rows: Any, expected: Expected) -> dict[str, Any]:
    """Predictions: one value a row, or one object a row for several outputs (one in all, where rows do not match)."""
    if len(expected) == 1:
        ((name, like),) = expected.items()
        whole = like.ndim > 0 and len(rows) == 1 and np.ndim(rows[0]) == like.ndim
        return {name: from_nested(rows[0] if whole else rows, like)}
    if len(rows) == 1 and all(np.ndim(rows[0][name]) == like.ndim for name, like in expected.items()):
        return {name: from_nested(rows[0][name], like) for name, like in expected.items()}
    return {name: from_nested([row[name] for row in rows], like) for name, like in expected.items()}


def _columns(model: str, inputs: Tensors, expected: Expected) -> Sent:
    named = {name: nested(array) for name, array in inputs.items()}
    return Sent(invoke_path(model), {"Content-Type": "application/json"}, json_bytes({"inputs": named}))


def _columns_read(response: Response, expected: Expected) -> dict[str, Any]:
    found = json.loads(response.body)["outputs"]
    if len(expected) == 1:
        ((name, like),) = expected.items()
        return {name: from_nested(found, like)}
    return {name: from_nested(found[name], like) for name, like in expected.items()}


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
    csv.writer(out).writerows(nested(array.reshape(len(array), -1)))
    return Sent(invoke_path(model), {"Content-Type": "text/csv", "Accept": "text/csv"}, out.getvalue().encode())


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
    return Sent(invoke_path(model), {"Content-Type": "application/x-npy", "Accept": accept}, out.getvalue())


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
    return Sent(invoke_path(model), headers, out.getvalue())


def _npz_read(response: Response, expected: Expected) -> dict[str, Any]:
    with np.load(io.BytesIO(response.body)) as archive:
        return {name: _objects(archive[name]) for name in archive.files}


def _record_io(model: str, inputs: Tensors, expected: Expected) -> Sent:
    headers = {"Content-Type": "application/x-recordio-protobuf", "Accept": "application/x-npz"}
    return Sent(invoke_path(model), headers, record_body(inputs))


def _text(model: str, inputs: Tensors, expected: Expected) -> Sent:
    (array,) = inputs.values()
    headers = {"Content-Type": "text/plain; charset=utf-8", "Accept": "application/x-npz"}
    return Sent(invoke_path(model), headers, array.reshape(-1)[0].encode())


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
    Route("v2-json", lambda i, e, s: True, v2_json, v2_json_read),
    Route("v2-binary", lambda i, e, s: True, v2_binary, v2_binary_read),
    Route("v2-through-invoke", lambda i, e, s: True, v2_through_invoke, v2_binary_read),
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
