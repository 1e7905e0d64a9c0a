"""Rows: the body of an event as rows of named columns, for every convention that the server takes.

A column without a name is ``_cN`` by its position. Nested objects get names with dots, and tensors of several columns
``NAME.N``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from server import tensors

from .events import BadLine, Body

MAX_COLUMNS = 1_000
"""Columns of a row that are watched; further ones are ignored."""
MAX_DEPTH = 8
MAX_ROWS = 20_000_000
"""Rows of one body; more bytes than a line may have."""
LISTS = ("instances", "predictions", "inputs", "outputs", "data", "dataframe_records")
DTYPES = {one.name: one.numpy for one in tensors.DTYPES if one.itemsize}
NESTED = frozenset((list, dict))
POSITIONS = tuple(f"_c{number}" for number in range(MAX_COLUMNS))


@dataclass(slots=True)
class Rows:
    """``names`` of the columns; each row has one value for each: text, number, or None for a missing value."""

    names: tuple[str, ...]
    rows: list[Sequence[Any]]


def read(body: Body) -> list[Rows]:
    """The rows of a body, in groups with the same columns. Raises BadLine."""
    try:
        if body.encoding == "CSV":
            return _csv(body.data)
        if body.encoding == "BINARY":
            return _binary(body.data, body.header_size)
        if not isinstance(body.data, str):
            return _document(body.data)
        if body.lines:
            return _lines(body.data)
        try:
            document = orjson.loads(body.data)
        except orjson.JSONDecodeError:
            return _lines(body.data)
        return _document(document)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, csv.Error) as error:
        raise BadLine(f"a body that is no {body.encoding} of rows") from error


def _lines(text: str) -> list[Rows]:
    """A document for each line; a list is a row."""
    groups: list[Rows] = []
    for line in text.splitlines():
        if line.strip():
            document = orjson.loads(line)
            more = _document(document) if isinstance(document, dict) else _listed([document])
            for group in more:
                if groups and groups[-1].names == group.names:
                    groups[-1].rows += group.rows
                else:
                    groups.append(group)
    return groups


def _csv(text: str) -> list[Rows]:
    if '"' not in text:  # most bodies; the reader's set-up takes longer than a row
        return _listed([line.split(",") for line in text.splitlines() if line])
    return _listed([row for row in csv.reader(io.StringIO(text)) if row])


def _document(document: Any) -> list[Rows]:
    if isinstance(document, list):
        return _listed(document)
    if not isinstance(document, dict):
        return _listed([document])
    split = document.get("dataframe_split", document)
    if isinstance(split, dict) and isinstance(split.get("columns"), list) and "data" in split:
        names = tuple(str(name) for name in split["columns"][:MAX_COLUMNS])
        return [Rows(names, [row[:MAX_COLUMNS] for row in split["data"]])] if split["data"] else []
    for key in LISTS:
        value = document.get(key)
        if isinstance(value, list):
            if value and all(isinstance(one, dict) and "datatype" in one for one in value):
                return _tensors(value)
            return _listed(value)
        if isinstance(value, dict):
            return _columnar(value)
    return _listed([document])


def _listed(rows: Sequence[Any]) -> list[Rows]:
    """Rows as lists, objects or single values; rows that follow each other with the same columns are one group."""
    groups: list[Rows] = []
    for row in rows:
        if isinstance(row, list):
            values: Sequence[Any] = row
            if not NESTED.isdisjoint(map(type, row)):
                values = [value for _, value in _flat(row, "", 0)]
            if len(values) > MAX_COLUMNS:
                values = values[:MAX_COLUMNS]
            names = POSITIONS[: len(values)]
        elif isinstance(row, dict):
            pairs = _flat(row, "", 0)[:MAX_COLUMNS]
            names, values = tuple(name for name, _ in pairs), [value for _, value in pairs]
        else:
            names, values = POSITIONS[:1], (row,)
        if not groups or groups[-1].names != names:
            groups.append(Rows(names, []))
        groups[-1].rows.append(values)
    return groups


def _flat(value: Any, name: str, depth: int) -> list[tuple[str, Any]]:
    """(name, value) of all values in an object or a list."""
    if depth > MAX_DEPTH:
        raise ValueError
    if isinstance(value, dict):
        items = [(f"{name}.{key}" if name else str(key), one) for key, one in value.items()]
    elif isinstance(value, list):
        items = [(f"{name}.{at}" if name else f"_c{at}", one) for at, one in enumerate(value[:MAX_COLUMNS])]
    else:
        return [(name, value)]
    found: list[tuple[str, Any]] = []
    for key, one in items:
        if isinstance(one, (dict, list)):
            found += _flat(one, key, depth + 1)
        else:
            found.append((key, one))
        if len(found) > MAX_COLUMNS:
            break
    return found


def _columnar(columns: dict[str, Any]) -> list[Rows]:
    """An object of one list for each column."""
    if not columns or not all(isinstance(one, list) for one in columns.values()):
        return _listed([columns])
    return _joined([(str(name), values) for name, values in columns.items()])


def _tensors(tensors: list[dict[str, Any]]) -> list[Rows]:
    """Open Inference tensors: the first axis has the rows."""
    columns: list[tuple[str, list[Any]]] = []
    for tensor in tensors:
        data, shape = tensor.get("data"), [int(size) for size in tensor["shape"]]
        rows = shape[0] if shape else 1
        if not 0 <= rows <= MAX_ROWS:
            raise ValueError
        if data is None:
            columns.append((str(tensor["name"]), [None] * rows))
            continue
        flat = [value for _, value in _flat(data, "", 0)] if data and isinstance(data[0], list) else data
        width, rest = divmod(len(flat), rows) if rows else (0, len(flat))
        if rest:
            raise ValueError
        columns.append((str(tensor["name"]), [flat[at * width : (at + 1) * width] for at in range(rows)]))
    return _joined(columns)


def _binary(raw: bytes, header_size: int) -> list[Rows]:
    header = orjson.loads(raw[:header_size])
    at = header_size
    columns: list[tuple[str, list[Any]]] = []
    for tensor in header.get("inputs") or header.get("outputs"):
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        rows = int(tensor["shape"][0]) if tensor["shape"] else 1
        if size is None:
            columns += [(str(tensor["name"]), list(np.reshape(tensor["data"], (rows, -1)).tolist()))]
            continue
        size = int(size)
        if size < 0 or at + size > len(raw):
            raise ValueError
        if tensor["datatype"] in DTYPES:
            array = np.frombuffer(raw[at : at + size], DTYPES[tensor["datatype"]])
            columns.append((str(tensor["name"]), array.reshape(rows, -1).tolist()))
        elif tensor["datatype"] == "BYTES":
            columns.append((str(tensor["name"]), _texts(raw[at : at + size], rows)))
        at += size
    return _joined(columns)


def _texts(raw: bytes, rows: int) -> list[list[str]]:
    """The texts of a BYTES tensor, each behind its length in four bytes."""
    found, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        found.append(raw[at + 4 : at + 4 + size].decode(errors="replace"))
        at += 4 + size
    width = len(found) // rows if rows else 0
    return [found[row * width : (row + 1) * width] for row in range(rows)]


def _joined(columns: list[tuple[str, list[Any]]]) -> list[Rows]:
    """Columns side by side. A column whose values are lists has a name for each position."""
    count = max((len(values) for _, values in columns), default=0)
    names: list[str] = []
    parts: list[list[Sequence[Any]]] = []
    for name, values in columns:
        rows = [value if isinstance(value, list) else [value] for value in values]
        rows += [[None]] * (count - len(rows))
        width = max((len(row) for row in rows), default=1)
        width = min(width, MAX_COLUMNS - len(names))
        if width <= 0:
            break
        names += [name] if width == 1 else [f"{name}.{at}" for at in range(width)]
        parts.append([[*row[:width], *[None] * (width - len(row))] for row in rows])
    joined: list[Sequence[Any]] = [[value for part in parts for value in part[at]] for at in range(count)]
    return [Rows(tuple(names), joined)] if joined else []
