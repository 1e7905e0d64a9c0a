"""The ONNX file: which inputs declare no shape at all, which the runtime shows like scalars.

Reads the protocol-buffer wire format of ``onnx.proto``, and of it only the fields on the way there: the server does not
import the package onnx.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
GRAPH, INPUT, NAME, TYPE, TENSOR, SHAPE = 7, 11, 1, 2, 1, 2
"""Numbers of the fields: ModelProto.graph, GraphProto.input, ValueInfoProto.name and .type, TypeProto.tensor_type,
TypeProto.Tensor.shape."""

Span = tuple[int, int]


def unranked_inputs(path: Path) -> list[str]:
    """Names of the inputs that are tensors without a shape. Empty for a file that is not understood."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return [
                data[slice(*name)].decode()
                for graph in _fields(data, (0, len(data)), GRAPH)
                for value in _fields(data, graph, INPUT)
                for name in _fields(data, value, NAME)
                for kind in _fields(data, value, TYPE)
                for tensor in _fields(data, kind, TENSOR)
                if not list(_fields(data, tensor, SHAPE))
            ]
        except (IndexError, ValueError):
            return []


def _fields(data: mmap.mmap, span: Span, wanted: int) -> Iterator[Span]:
    """Where the values of one field of a message lie; ``span`` is where the message lies."""
    at, end = span
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        if wire == VARINT:
            _, at = _varint(data, at)
        elif wire == BYTES:
            size, at = _varint(data, at)
            if key >> 3 == wanted:
                yield at, at + size
            at += size
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is not used by ONNX")


def _varint(data: mmap.mmap, at: int) -> Span:
    """A number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
