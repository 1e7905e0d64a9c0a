"""application/jsonlines: one JSON value a line and one line a row, in requests and responses.

A line is a row of the only input (a list, or a number for an input without further axes), an object of the built-in
algorithms (``{"features": [...]}``, ``{"data": {"features": {"values": [...]}}}``), or ``{input: value, ...}``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from ..errors import MalformedInput, NotAcceptable
from ..request import Head, Payload
from ..tensors import Array, ModelSpec
from . import Encoded, body_bytes
from .conventions import INSTANCES, read_rows
from .expansion import check_json
from .fitting import DecodePlan, decode_plan
from .json_documents import BOM, are_large, dump, parse
from .nested import depth, may_hold_booleans

_CONTENT_TYPE = b"application/jsonlines"
_UTF8_NAMES = ("utf-8", "utf8", "us-ascii", "ascii")


class JsonLines:
    """JSON lines, under all the names of the format. NaN and infinity in outputs are written as ``null``."""

    media_types: tuple[str, ...] = ("application/jsonlines", "application/x-ndjson", "application/jsonl",
                                    "application/x-jsonlines", "application/ndjson")  # fmt: skip
    interpreted = True
    expanded_bytes = staticmethod(body_bytes)

    def decode(self, body: bytes, head: Head, parameters: Mapping[str, str], spec: ModelSpec) -> Payload:  # noqa: ARG002
        """Read lines; the last one may end without a line break. Raises MalformedInput with the line (from 1) and the
        place in it, or UnprocessableInput."""
        charset = parameters.get("charset", "utf-8")
        if charset.lower() not in _UTF8_NAMES:
            raise MalformedInput(f'JSON lines are always UTF-8; charset "{charset}" is not read')
        plan = decode_plan(spec)
        rows: Any
        rows, literals = _parse(body)
        if not plan.batchable and len(rows) == 1 and _is_whole(rows[0], plan):
            rows = rows[0]
        payload = plan.payload(read_rows(rows, plan, may_hold_booleans(body)), INSTANCES)
        return plan.checked(payload, literals)

    def encode(self, outputs: Sequence[Array], payload: Payload, spec: ModelSpec, name: str, version: str) -> Encoded:  # noqa: ARG002
        """Write one line a row: the value of one output, or an object of several by name. A model without a batch axis
        gives one line. Raises NotAcceptable unless the outputs have one row for each row of input."""
        chosen = payload.wanted if payload.wanted is not None else range(len(outputs))
        arrays = [outputs[index] for index in chosen]
        names = [spec.outputs[index].name for index in chosen]
        if not spec.batchable:
            line = arrays[0] if len(arrays) == 1 else dict(zip(names, arrays, strict=True))
            return dump(line, are_large(arrays)) + b"\n", _CONTENT_TYPE, []
        if any(array.shape[:1] != (payload.rows,) for array in arrays):
            raise NotAcceptable(
                "JSON lines need one row of output for each row of input, which this model does not give; "
                "ask for application/json"
            )
        if len(arrays) == 1:
            return _lines(arrays[0]), _CONTENT_TYPE, []
        rows = ({name: array[row] for name, array in zip(names, arrays, strict=True)} for row in range(payload.rows))
        large = are_large(arrays)
        return b"".join([dump(row, large) + b"\n" for row in rows]), _CONTENT_TYPE, []


def _parse(body: bytes) -> tuple[list[Any], bool]:
    """The values of the lines, and whether they hold NaN or Infinity. A value must end on its own line."""
    check_json(body)
    lines = body.removeprefix(BOM).rstrip(b"\r\n").split(b"\n")
    if lines == [b""]:
        raise MalformedInput("the body is empty; send one JSON value a line")
    rows = []
    literals = False
    for number, line in enumerate(lines, 1):
        try:
            rows.append(orjson.loads(line))
        except orjson.JSONDecodeError as error:
            if not line.strip():
                raise MalformedInput(f"line {number} is empty; send one JSON value a line") from error
            if b"NaN" not in line and b"Infinity" not in line:
                raise MalformedInput(f"line {number} is not JSON: {error.msg} at column {error.colno}") from error
            rows.append(_with_literals(line, number))
            literals = True
    return rows, literals


def _with_literals(line: bytes, number: int) -> Any:
    try:
        return parse(line)[0]
    except MalformedInput as error:
        raise MalformedInput(f"line {number}: {error}") from error


def _is_whole(row: Any, plan: DecodePlan) -> bool:
    """Whether one line holds the whole of a single input, its first axis included."""
    return plan.single is not None and type(row) is list and depth(row) == len(plan.single.spec.shape)


def _lines(array: Array) -> bytes:
    if array.dtype.kind == "O" or not array.size:
        large = are_large([array])
        return b"".join([dump(row, large) + b"\n" for row in array])
    # One JSON text, with line breaks between the rows: numbers hold no brackets, so the replacement is safe.
    text = dump(np.ascontiguousarray(array), are_large([array]))[1:-1]
    close, begin = b"]" * (array.ndim - 1), b"[" * (array.ndim - 1)
    return text.replace(close + b"," + begin, close + b"\n" + begin) + b"\n"
