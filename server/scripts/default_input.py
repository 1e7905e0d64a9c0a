"""The default ``input_fn``: JSON, CSV, npy or npz to arrays.

The rules are those of the SageMaker inference toolkit, with two differences: client errors are 400 or 415, and CSV
always has two axes.
"""

from __future__ import annotations

import binascii
import io
import zipfile
from typing import Any

import numpy as np

from ..codecs.csv_rows import Rows, check_widths, number_or_missing, read_rows, whole
from ..codecs.json_documents import parse
from ..codecs.numpy import check_text, read_members
from ..errors import MalformedInput, UnsupportedMedia
from ..tensors import Array
from .media_types import CSV, JSON, NPY, NPZ

ROWS = ("instances", "inputs")
"""Keys of a JSON object that hold the rows of a request."""
BESIDE_ROWS = frozenset(("signature_name",))
"""Keys that may stand beside the rows without a meaning for a script."""


def decode(body: str | bytes, content_type: str | None) -> Any:
    """The array, object or list of a body.

    A JSON list becomes an array, as does the list in an object of just ``instances`` or ``inputs``; any other object
    stays a dictionary. ``null`` among numbers is NaN. CSV becomes an array of two axes: int64 if all cells are whole
    numbers, float64 if all are numbers or empty (NaN), else objects that are int, float or str by column. npz becomes a
    dictionary of arrays. Raises UnsupportedMedia or MalformedInput.
    """
    if content_type == JSON:
        return rows_of(document_of(body))
    if content_type == CSV:
        return _from_csv(body if isinstance(body, str) else body.decode())
    if content_type == NPY and isinstance(body, bytes):
        return _load(body, NPY)
    if content_type == NPZ and isinstance(body, bytes):
        return {name: _load(raw, NPZ) for name, raw in read_members(body).items()}
    said = f'Content-Type "{content_type[:100]}" is not supported' if content_type else "Content-Type is missing"
    raise UnsupportedMedia(f"{said}; without an input_fn {JSON}, {CSV}, {NPY} and {NPZ} are")


def document_of(body: str | bytes) -> Any:
    """The JSON document of a body, with the bytes of TensorFlow's ``{"b64": "..."}``. Raises MalformedInput."""
    raw = body.encode() if isinstance(body, str) else body
    document, _ = parse(raw)
    return with_bytes(document) if b'"b64"' in raw else document


def rows_of(document: Any) -> Any:
    """The array of a list, or of an object of just ``instances`` or ``inputs``; any other value unchanged."""
    if isinstance(document, dict):
        keys = document.keys() - BESIDE_ROWS
        (key,) = keys if len(keys) == 1 else ("",)
        if key not in ROWS or not isinstance(document[key], list):
            return document
        document = document[key]
        if document and isinstance(document[0], dict):
            return document
    return array_of(document)


def array_of(document: Any) -> Array:
    """The array of nested lists. Raises MalformedInput if they are ragged."""
    try:
        array = np.array(document)
        if array.dtype.kind not in "OSU":
            return array
        objects = np.array(document, object)
    except ValueError as error:
        raise MalformedInput("the JSON list is ragged: all rows need the same shape") from error
    kinds = {type(value) for value in objects.flat}
    if kinds <= {int, float, type(None)} and len(kinds) > 1:
        return objects.astype(np.float64)  # None becomes NaN
    return array if kinds == {str} else objects  # numpy would turn numbers beside text into text


def with_bytes(value: Any, depth: int = 0) -> Any:
    """A JSON value with the bytes of ``{"b64": "..."}``. Raises MalformedInput for invalid base64."""
    if isinstance(value, list):
        return [with_bytes(one, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() != {"b64"}:
        return {key: with_bytes(one, depth + 1) for key, one in value.items()}
    try:
        return binascii.a2b_base64(value["b64"], strict_mode=True)
    except (TypeError, ValueError) as error:
        raise MalformedInput('"b64" must hold base64') from error


def _from_csv(text: str) -> Array:
    rows = read_rows(text)
    width = check_widths(rows)
    for convert, dtype in ((whole, np.int64), (number_or_missing, np.float64)):
        array = _converted(rows, convert, np.dtype(dtype))
        if array is not None:
            return array
    array = np.empty((len(rows), width), object)
    for column in range(width):
        array[:, column] = _column([row[column] for row in rows])
    return array


def _converted(rows: Rows, convert: Any, dtype: np.dtype[Any]) -> Array | None:
    try:
        return np.array([list(map(convert, row)) for row in rows], dtype)
    except (ValueError, OverflowError):
        return None


def _column(cells: list[str]) -> list[Any]:
    """The cells of one column as int, else float, else str. A column without any number is text."""
    for convert in (whole, number_or_missing):
        try:
            values: list[Any] = list(map(convert, cells))
        except (ValueError, OverflowError):
            continue
        if any(cell.strip() for cell in cells):
            return values
    return list(cells)


def _load(body: bytes, content_type: str) -> Any:
    """The array of an npy file. Never with pickles in it: a pickle runs code."""
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, OSError, EOFError, KeyError, OverflowError, MemoryError, zipfile.BadZipFile) as error:
        raise MalformedInput(f"the body cannot be read as {content_type}; arrays of objects are refused") from error
    check_text(array)
    return array
