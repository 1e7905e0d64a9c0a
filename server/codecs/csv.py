"""text/csv: one line a row, no header, for models of one input and responses of one output.

Numbers are separated by commas; booleans are true, false, 1 or 0. An array always has its batch axis, from one line
too. A line holds all values of a row: axes after the first are flattened. Text is one column.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import orjson

from ..errors import MalformedInput, NotAcceptable
from ..request import Head, Payload
from ..tensors import Array, ModelSpec, TensorSpec
from . import Encoded
from .fitting import check_finite, check_shape, decode_plan, fit
from .nested import NestedReader, shown

_CONTENT_TYPE = b"text/csv; charset=utf-8"
_CHARSETS = {"utf-8": "utf-8-sig", "utf8": "utf-8-sig", "us-ascii": "ascii", "ascii": "ascii", "iso-8859-1": "latin-1",
             "latin-1": "latin-1", "latin1": "latin-1"}  # fmt: skip
_BOOLEANS = {"true": 1, "false": 0, "1": 1, "0": 0}


class Csv:
    """Comma-separated values without a header. NaN and infinity are written as ``nan`` and ``inf``."""

    media_types: tuple[str, ...] = ("text/csv",)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read lines. Raises MalformedInput with row and column, or UnprocessableInput for NaN and infinity."""
        plan = decode_plan(spec)
        if plan.single is None:
            raise MalformedInput("text/csv holds one input and the model has several; send application/json")
        text = _text(body, parameters)
        tensor = plan.single.spec
        if tensor.dtype.numpy.kind == "O":
            array = _fold(np.array(_texts(text), object), tensor)
            return plan.payload((fit(array, tensor),))
        array = _fold(_numbers(text, plan.single), tensor)
        check_finite(array, tensor)
        return plan.payload((array,))

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """Write one output of one or two axes, floats in the fewest digits that read back as the same value.

        Raises NotAcceptable for several outputs, no axis, or more than two.
        """
        chosen = payload.wanted if payload.wanted is not None else range(len(outputs))
        if len(chosen) != 1:
            raise NotAcceptable(f"text/csv holds one output, not {len(chosen)}; ask for application/json")
        array = outputs[chosen[0]]
        if array.ndim not in (1, 2):
            raise NotAcceptable(f"text/csv holds one or two axes, not {array.ndim}; ask for application/json")
        return _written(array), _CONTENT_TYPE, []


def _text(body: bytes, parameters: Mapping[str, str]) -> str:
    charset = parameters.get("charset", "utf-8").lower()
    if charset not in _CHARSETS:
        raise MalformedInput(f"charset {shown(charset)} is not read; {', '.join(_CHARSETS)} are")
    try:
        text = body.decode(_CHARSETS[charset])
    except UnicodeDecodeError as error:
        raise MalformedInput(f"the body is not {charset}: byte {error.start} is {body[error.start]:#04x}") from error
    if not text.strip("\r\n"):
        raise MalformedInput("the body is empty; send one line a row")
    return text


def _numbers(text: str, reader: NestedReader) -> Array:
    """Shape [lines, cells], of the input's dtype; infinity and NaN are let through."""
    tensor = reader.spec
    text = text.replace("\r\n", "\n").rstrip("\n")
    lines = text.split("\n")
    width = lines[0].count(",") + 1
    convert: Any = {"f": float, "b": _boolean}.get(tensor.dtype.numpy.kind, int)
    try:
        # float() and int() also read 1_000 and digits of other scripts.
        if "_" in text or not text.isascii():
            raise ValueError
        values = [list(map(convert, line.split(","))) for line in lines]
    except ValueError as error:
        raise _not_numbers(lines, convert, tensor) from error
    for index, row in enumerate(values):
        if len(row) != width:
            raise MalformedInput(f"row {index} has {len(row)} values, row 0 has {width}; all rows need the same number")
    if tensor.shape != (-1, width):
        reader = NestedReader(TensorSpec(tensor.name, tensor.dtype, (-1, width)))
    return reader.read(values, booleans=False)


def _boolean(cell: str) -> int:
    try:
        return _BOOLEANS[cell.strip().lower()]
    except KeyError as error:
        raise ValueError from error


def _not_numbers(lines: list[str], convert: Any, tensor: TensorSpec) -> MalformedInput:
    expected = f"expected a value of {tensor.dtype.name}"
    for row, line in enumerate(lines):
        for column, cell in enumerate(line.split(",")):
            try:
                if "_" in cell or not cell.isascii():
                    raise ValueError
                convert(cell)
            except ValueError:
                if row == 0 and cell.strip().strip('"')[:1].isalpha():
                    return MalformedInput(f"row 0 looks like a header ({shown(cell)}); remove it, send only values")
                if not line:
                    return MalformedInput(f"row {row} is empty")
                return MalformedInput(f"row {row}, column {column}: {expected}, got {shown(cell)}")
    raise AssertionError("a line failed to convert, and then it did not")


def _texts(text: str) -> list[str]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise MalformedInput(f"the body is not CSV: {error}") from error
    for index, row in enumerate(rows):
        if len(row) != 1:
            hint = "quote text that holds commas" if row else 'write "" for an empty text'
            raise MalformedInput(f"row {index} has {len(row)} columns of text, expected 1; {hint}")
    return [row[0] for row in rows]


def _fold(array: Array, tensor: TensorSpec) -> Array:
    """Lines of values as rows of the input's shape, which needs all axes but the first and one more to be fixed."""
    tail = tensor.shape[1:]
    width = prod(array.shape[1:])
    if len(tensor.shape) == 0 or sum(size == -1 for size in tail) > 1:
        raise MalformedInput(f'text/csv cannot hold input "{tensor.name}"; send application/json')
    fixed = prod(size for size in tail if size != -1)
    fits = width == fixed if -1 not in tail else fixed > 0 and width % fixed == 0
    if not fits:
        raise MalformedInput(f'input "{tensor.name}" needs {fixed} values a row, row 0 has {width}')
    shape = (len(array), *(width // fixed if size == -1 else size for size in tail))
    if tensor.shape[0] not in (-1, len(array)):
        check_shape(shape, tensor)
    return array.reshape(shape)


def _written(array: Array) -> bytes:
    if array.dtype.kind == "O":
        lines = io.StringIO(newline="")
        rows = array if array.ndim == 2 else array.reshape(-1, 1)
        csv.writer(lines, lineterminator="\n").writerows(rows.tolist())
        return lines.getvalue().encode()
    plain = array.dtype.kind != "f" or (array.dtype.itemsize > 2 and bool(np.isfinite(array).all()))
    if plain and array.size:
        # The JSON writer prints shortest digits per dtype, far faster than a loop; only the brackets differ.
        dense = np.ascontiguousarray(array)
        text = orjson.dumps(dense, option=orjson.OPT_SERIALIZE_NUMPY)
        return text.strip(b"[]").replace(b"],[" if array.ndim == 2 else b",", b"\n") + b"\n"
    rows = array if array.ndim == 2 else array.reshape(-1, 1)
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
