"""text/csv: one line a row, no header, for models of one input and responses of one output.

Numbers are separated by commas; booleans are true, false, 1 or 0. An array always has its batch axis, from one line
too. A line holds all values of a row: axes after the first are flattened. An empty cell or ``nan`` is a missing value.
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
from . import Encoded, body_bytes
from .csv_rows import Rows, blocks, check_widths, number, number_or_missing, read_rows, text_of, whole
from .fitting import check_shape, check_values, decode_plan, fit
from .nested import NestedReader, shown

_CONTENT_TYPE = b"text/csv"
"""Without a charset: clients of the platform compare the whole header."""
_BOOLEANS = {"true": 1, "false": 0, "1": 1, "0": 0}


class Csv:
    """Comma-separated values without a header. NaN and infinity in outputs are written as ``nan`` and ``inf``."""

    media_types: tuple[str, ...] = ("text/csv",)
    interpreted = True
    expanded_bytes = staticmethod(body_bytes)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read lines. Raises MalformedInput with row and column, or UnprocessableInput for refused values."""
        plan = decode_plan(spec)
        if plan.single is None:
            raise MalformedInput("text/csv holds one input and the model has several; send application/json")
        tensor = plan.single.spec
        text = text_of(body, parameters.get("charset", "utf-8"))
        if tensor.dtype.numpy.kind == "O":
            return plan.payload((fit(_fold(_texts(read_rows(text), tensor), tensor), tensor),))
        array = _fold(_numbers(text, plan.single), tensor)
        check_values(array, tensor)
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


def _numbers(text: str, reader: NestedReader) -> Array:
    """Shape [lines, cells], of the input's dtype; NaN and infinity are not checked."""
    parts: list[Array] = []
    for first_row, block in blocks(text):
        parts.append(_block(block, reader, first_row, parts[0].shape[1] if parts else 0))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _block(text: str, reader: NestedReader, first_row: int, width: int) -> Array:
    """As :func:`_numbers`, for lines from ``first_row`` on; ``width``: the cells of row 0; 0: these begin with it."""
    tensor = reader.spec
    rows = read_rows(text, first_row)
    kind = tensor.dtype.numpy.kind
    convert: Any = {"f": number_or_missing if tensor.missing else number, "b": _boolean}.get(kind, whole)
    fast: Any = {number: float, whole: int}.get(convert, convert)
    try:
        if fast is not convert and ("_" in text or not text.isascii()):
            fast = convert
        values = [list(map(fast, row)) for row in rows]
    except ValueError:
        values = _converted(rows, convert, tensor, first_row)
    width = check_widths(values, first_row, width)
    if tensor.shape != (-1, width):
        reader = NestedReader(TensorSpec(tensor.name, tensor.dtype, (-1, width)))
    return reader.read(values, booleans=False)


def _boolean(cell: str) -> int:
    try:
        return _BOOLEANS[cell.strip().lower()]
    except KeyError as error:
        raise ValueError from error


def _converted(rows: Rows, convert: Any, tensor: TensorSpec, first_row: int) -> list[list[Any]]:
    """The cells as values. Raises MalformedInput with the place of the first cell that is none."""
    values: list[list[Any]] = []
    for index, row in enumerate(rows, first_row):
        values.append([])
        for column, cell in enumerate(row):
            try:
                values[-1].append(convert(cell))
            except ValueError as error:
                if index == 0 and cell.strip()[:1].isalpha():
                    raise MalformedInput(
                        f"row 0 looks like a header ({shown(cell)}); remove it, send only values"
                    ) from error
                expected = f"expected a value of {tensor.dtype.name}"
                raise MalformedInput(f"row {index}, column {column}: {expected}, got {shown(cell)}") from error
    return values


def _texts(rows: Rows, tensor: TensorSpec) -> Array:
    """The cells as an object array [rows, columns]; the columns must be those of the input."""
    expected = prod(tensor.shape[1:]) if -1 not in tensor.shape[1:] else len(rows[0])
    for index, row in enumerate(rows):
        if len(row) != expected:
            hint = "; quote text that holds commas" if len(row) > expected else ""
            raise MalformedInput(f"row {index} has {len(row)} columns of text, expected {expected}{hint}")
    array = np.empty((len(rows), expected), object)
    array[...] = rows
    return array


def _fold(array: Array, tensor: TensorSpec) -> Array:
    """Lines of values as rows of the input's shape, which may have one variable axis after the first."""
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
        csv.writer(lines, lineterminator="\n").writerows(_decoded(rows.tolist()))
        return lines.getvalue().encode()
    plain = array.dtype.kind != "f" or (array.dtype.itemsize > 2 and bool(np.isfinite(array).all()))
    if plain and array.size:
        # The JSON writer prints the shortest digits of a dtype faster than a loop; only the brackets differ.
        dense = np.ascontiguousarray(array)
        text = orjson.dumps(dense, option=orjson.OPT_SERIALIZE_NUMPY)
        return text.strip(b"[]").replace(b"],[" if array.ndim == 2 else b",", b"\n") + b"\n"
    rows = array if array.ndim == 2 else array.reshape(-1, 1)
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def _decoded(rows: list[list[Any]]) -> list[list[Any]]:
    """Bytes among the cells as text. Raises NotAcceptable for bytes that are not UTF-8."""
    try:
        return [[cell.decode() if isinstance(cell, bytes) else cell for cell in row] for row in rows]
    except UnicodeDecodeError as error:
        raise NotAcceptable("an output holds bytes that are not text; ask for application/x-npz") from error
