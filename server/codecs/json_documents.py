"""JSON documents: parsing with the place of an error, and writing of arrays."""

from __future__ import annotations

from typing import Any

import orjson

from ..errors import MalformedInput, NotAcceptable

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def parse(body: bytes | memoryview) -> Any:
    """The JSON document. Raises MalformedInput with line, column and position."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(bytes(body), error) from error


def dump(document: Any) -> bytes:
    """The JSON text of a document that may hold arrays. Raises NotAcceptable for values that JSON cannot hold."""
    try:
        return orjson.dumps(document, default=_plain, option=_NUMPY)
    except orjson.JSONEncodeError as error:
        raise NotAcceptable("an output holds bytes that are not text; ask for application/x-npz") from error


def _plain(value: Any) -> Any:
    """A value that orjson writes, for an array that it does not: strided, of objects, or without axes."""
    if not hasattr(value, "tolist"):
        raise TypeError
    if value.ndim == 0 or value.dtype.kind == "O":
        return value.tolist()
    return value.astype(value.dtype.newbyteorder("="), order="C")


def _malformed(body: bytes, error: orjson.JSONDecodeError) -> MalformedInput:
    if not body.strip():
        return MalformedInput("the body is empty; send a JSON document")
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return MalformedInput(f"the body is not UTF-8: byte {wrong.start} is {body[wrong.start]:#04x}")
    where = f"line {error.lineno} column {error.colno} (character {error.pos})"
    return MalformedInput(f"the body is not JSON: {error.msg} at {where}")
