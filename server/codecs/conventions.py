"""The conventions of JSON bodies: the place of the tensors in a request, and the form of its response.

A response mirrors its request: ``instances`` and MLflow's data frames give ``predictions``, ``inputs`` gives
``outputs``, a bare list gives a bare list. An object whose keys are the model's inputs is read as ``inputs``. Keys that
carry no tensors (``parameters``, ``signature_name``) are ignored.

A list of rows always has a batch axis. Only ``inputs`` and the bare list may omit it: an array of exactly one axis less
is one row. In ``instances`` a missing axis is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import MalformedInput
from ..request import Payload
from ..tensors import Array
from .fitting import DecodePlan
from .nested import NestedReader, depth, shown

INSTANCES, COLUMNS, BARE = "instances", "columns", "bare"

_Read = Callable[[Any, DecodePlan, bool], "tuple[Array, ...]"]


def read_convention(document: Any, plan: DecodePlan, booleans: bool) -> Payload:
    """The payload of a parsed JSON document. Raises MalformedInput."""
    if type(document) is list:
        return plan.payload(_lenient(document, plan, booleans), BARE)
    if type(document) is not dict:
        raise MalformedInput(f"the body must be a JSON object or list, got {shown(document)}")
    present = [key for key in _CONVENTIONS if key in document]
    if not present and document.keys() == plan.names:
        return plan.payload(_columns(document, plan, booleans), COLUMNS)
    if len(present) != 1:
        known = ", ".join(f'"{key}"' for key in _CONVENTIONS)
        problem = f"has {' and '.join(present)} together" if present else "has none of the known keys"
        raise MalformedInput(f"the JSON object {problem}; expected exactly one of {known}, or a bare list of rows")
    read, style = _CONVENTIONS[present[0]]
    return plan.payload(read(document[present[0]], plan, booleans), style)


def read_rows(rows: Any, plan: DecodePlan, booleans: bool) -> tuple[Array, ...]:
    """The arrays of a list of rows, as in ``instances``. Raises MalformedInput."""
    if type(rows) is not list:
        raise MalformedInput(f'"instances" must be a list of rows, got {shown(rows)}')
    if rows and type(rows[0]) is dict and not _is_packed(rows[0]):
        return _named_rows(rows, plan, booleans)
    return (_only(plan).read(rows, booleans),)


def _inputs(value: Any, plan: DecodePlan, booleans: bool) -> tuple[Array, ...]:
    if type(value) is dict and not _is_packed(value):
        return _columns(value, plan, booleans)
    return _lenient(value, plan, booleans)


def _lenient(value: Any, plan: DecodePlan, booleans: bool) -> tuple[Array, ...]:
    if type(value) is list and value and type(value[0]) is dict and not _is_packed(value[0]):
        return _named_rows(value, plan, booleans)
    reader = _only(plan)
    if plan.batchable and depth(value) == len(reader.spec.shape) - 1:
        value = [value]
    return (reader.read(value, booleans),)


def _frame_split(frame: Any, plan: DecodePlan, booleans: bool) -> tuple[Array, ...]:
    columns, rows = (frame.get("columns"), frame.get("data")) if type(frame) is dict else (None, None)
    if type(rows) is not list or type(columns) is not list or not all(type(name) is str for name in columns):
        raise MalformedInput('"dataframe_split" must be an object with "columns" (names) and "data" (a list of rows)')
    if len(set(columns)) != len(columns):
        raise MalformedInput('"dataframe_split" names a column twice')
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != len(columns):
            raise MalformedInput(
                f'"dataframe_split": row {index} must be a list of {len(columns)} values, one a column'
            )
    if plan.single is not None and set(columns) != plan.names:
        return (plan.single.read(rows, booleans),)
    cells = {name: [row[index] for row in rows] for index, name in enumerate(columns)}
    return _columns(cells, plan, booleans)


def _frame_records(rows: Any, plan: DecodePlan, booleans: bool) -> tuple[Array, ...]:
    if type(rows) is not list or not rows or not all(type(row) is dict for row in rows):
        raise MalformedInput('"dataframe_records" must be a list of objects, one a row, and not empty')
    columns = list(rows[0])
    if plan.single is None or set(columns) == plan.names:
        return _named_rows(rows, plan, booleans)
    _check_same_names(rows)
    # The records become one matrix; the first record gives the order of its columns.
    return (plan.single.read([[row[name] for name in columns] for row in rows], booleans),)


def _named_rows(rows: Sequence[Any], plan: DecodePlan, booleans: bool) -> tuple[Array, ...]:
    """Rows that are objects: ``{input: value}``, or, for a single input, ``features`` as in SageMaker's algorithms."""
    _check_same_names(rows)
    if plan.single is not None and rows[0].keys() != plan.names:
        features = [_features(row, index, plan) for index, row in enumerate(rows)]
        return (plan.single.read(features, booleans),)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    if plan.batchable:
        return _columns(columns, plan, booleans)
    if len(rows) != 1:
        raise MalformedInput(f"the model has no batch axis and takes one row a request, got {len(rows)}")
    return _columns({name: values[0] for name, values in columns.items()}, plan, booleans)


def _check_same_names(rows: Sequence[Any]) -> None:
    for index, row in enumerate(rows):
        if type(row) is not dict or row.keys() != rows[0].keys():
            raise MalformedInput(f"row {index} does not have the same names as row 0; got {shown(row)}")


def _features(row: dict[str, Any], index: int, plan: DecodePlan) -> Any:
    data = row.get("data")
    features = data.get("features") if type(data) is dict else row.get("features")
    if type(features) is dict:
        if "keys" in features:
            raise MalformedInput(f"row {index} is sparse (it has keys); send all values")
        features = features.get("values")
    if features is None:
        (name,) = plan.names
        raise MalformedInput(f'row {index} must be a list, or an object with "{name}" or "features", got {shown(row)}')
    return features


def _columns(columns: Mapping[str, Any], plan: DecodePlan, booleans: bool) -> tuple[Array, ...]:
    values = plan.arrange(columns)
    return tuple(
        reader.read(_as_column(value, reader), booleans) for reader, value in zip(plan.readers, values, strict=True)
    )


def _as_column(values: Any, reader: NestedReader) -> Any:
    """The column of an input of one feature per row: ``[1, 2]`` is read as ``[[1], [2]]``."""
    if type(values) in (str, dict) and reader.spec.shape == (-1,) and reader.spec.dtype.numpy.kind == "O":
        return [values]
    flat = reader.spec.shape == (-1, 1) and type(values) is list and depth(values) == 1
    return [[value] for value in values] if flat else values


def _is_packed(value: dict[str, Any]) -> bool:
    """Whether an object is one value: bytes in base64."""
    return value.keys() == {"b64"}


def _only(plan: DecodePlan) -> NestedReader:
    if plan.single is None:
        names = ", ".join(f'"{tensor.name}"' for tensor in plan.spec.inputs)
        raise MalformedInput(f"the model has several inputs ({names}): send each row as an object with these names")
    return plan.single


_CONVENTIONS: dict[str, tuple[_Read, str]] = {
    "instances": (read_rows, INSTANCES),
    "inputs": (_inputs, COLUMNS),
    "dataframe_split": (_frame_split, INSTANCES),
    "dataframe_records": (_frame_records, INSTANCES),
}
