"""JSON documents: parsing with the place of an error, and writing of arrays.

JSON has no words for NaN and infinity. The literals ``NaN``, ``Infinity`` and ``-Infinity``, which Python and other
tools write, are read all the same; in responses NaN and infinity are ``null``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson

from ..errors import MalformedInput, NotAcceptable
from ..tensors import Array
from .expansion import check_json

BOM = b"\xef\xbb\xbf"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY

PIECE = 65_536
"""Elements of an array that are written at a time. orjson reserves up to 100 bytes for an element, and ends the process
where it gets no memory."""


def parse(body: bytes | memoryview) -> tuple[Any, bool]:
    """The JSON document, and whether it holds the literals NaN or Infinity; a byte order mark is skipped.

    Raises MalformedInput with line, column and position.
    """
    check_json(body)
    try:
        return orjson.loads(body), False
    except orjson.JSONDecodeError as error:
        raw = bytes(body)
        if raw.startswith(BOM):
            return parse(raw[len(BOM) :])
        if b"NaN" in raw or b"Infinity" in raw:
            return _parse_literals(raw), True
        raise _malformed(raw, error) from error


def dump(document: Any, large: bool = False) -> bytes:
    """The JSON text of a document that may hold arrays; ``large``: some of them by :func:`are_large`.

    Raises NotAcceptable for values that JSON cannot hold."""
    try:
        if large:
            return orjson.dumps(document, default=_in_pieces)
        return orjson.dumps(document, default=_plain, option=_NUMPY)
    except orjson.JSONEncodeError as error:
        raise NotAcceptable("an output holds bytes that are not text; ask for application/x-npz") from error


def are_large(arrays: Iterable[Array]) -> bool:
    """Whether one of these arrays has more than ``PIECE`` elements."""
    return any(one.size > PIECE for one in arrays)


def _in_pieces(value: Any) -> Any:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError
    array = np.asarray(value)
    return array.tolist() if array.ndim == 0 else orjson.Fragment(b"".join(_pieces(array)))


def _pieces(array: Array) -> Iterator[bytes]:
    """The text of an array with at least one axis, in pieces of about ``PIECE`` elements."""
    row = array[:1].size
    if row > PIECE:
        for index, one in enumerate(array):
            yield b"," if index else b"["
            yield from _pieces(one)
    else:
        rows = PIECE // max(row, 1)
        for begin in range(0, len(array), rows):
            yield b"," if begin else b"["
            yield orjson.dumps(array[begin : begin + rows], default=_plain, option=_NUMPY)[1:-1]
    yield b"]" if len(array) else b"[]"


def _plain(value: Any) -> Any:
    """A value that orjson writes, for an array that it does not: strided, of objects, or without axes."""
    if not hasattr(value, "tolist"):
        raise TypeError
    if value.ndim == 0 or value.dtype.kind == "O":
        return value.tolist()
    return value.astype(value.dtype.newbyteorder("="), order="C")


def _parse_literals(body: bytes) -> Any:
    """The document, by a parser that knows the literals. Raises MalformedInput."""
    try:
        document = json.loads(body.decode())
        if b"\\u" in body:
            orjson.dumps(document)  # that parser accepts lone surrogates, which are not text
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno} (character {error.pos})"
        raise MalformedInput(f"the body is not JSON: {error.msg} at {where}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise MalformedInput(f"the body is not JSON: {str(error)[:200]}") from error
    return document


def _malformed(body: bytes, error: orjson.JSONDecodeError) -> MalformedInput:
    if not body.strip():
        return MalformedInput("the body is empty; send a JSON document")
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        return MalformedInput(f"the body is not UTF-8: byte {wrong.start} is {body[wrong.start]:#04x}")
    where = f"line {error.lineno} column {error.colno} (character {error.pos})"
    return MalformedInput(f"the body is not JSON: {error.msg} at {where}")
