"""The ONNX file: facts of a graph that the runtime does not tell, read from the wire format of ``onnx.proto``.

The server does not import the package onnx. Weights are skipped by their length, so that large files cost little.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

GRAPH = 7  # ModelProto
NODE, INITIALIZER, INPUT, OUTPUT = 1, 5, 11, 12  # GraphProto
VALUE_NAME, TYPE, TENSOR, SHAPE = 1, 2, 1, 2  # ValueInfoProto, TypeProto, TypeProto.Tensor
TENSOR_NAME = 8  # TensorProto
TAKES, GIVES, NODE_NAME, OPERATOR = 1, 2, 3, 4  # NodeProto

Span = tuple[int, int]

CONTROL = {"If": slice(0, 1), "Loop": slice(0, 2)}
"""Operators that choose what is run, and which of their inputs decide."""

SHAPES = frozenset(("Shape", "Size"))
"""Operators whose outputs depend on sizes only."""


class OnnxFile:
    """An ONNX file that is open for reading. Raises ValueError for bytes that are not understood."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._graphs = list(self._fields((0, len(data)), GRAPH))

    def unranked_inputs(self) -> list[str]:
        """Names of the inputs that are tensors without a shape, which the runtime shows like scalars."""
        return [
            self._text(name)
            for graph in self._graphs
            for value in self._fields(graph, INPUT)
            for name in self._fields(value, VALUE_NAME)
            for kind in self._fields(value, TYPE)
            for tensor in self._fields(kind, TENSOR)
            if not list(self._fields(tensor, SHAPE))
        ]

    def end_names(self) -> tuple[list[str], list[str]]:
        """Names of the inputs that are not weights, and of the outputs."""
        ends: tuple[list[str], list[str]] = ([], [])
        for graph in self._graphs:
            weights = self._names(graph, INITIALIZER, TENSOR_NAME)
            for found, member in zip(ends, (INPUT, OUTPUT), strict=True):
                values = self._fields(graph, member)
                names = [self._text(one) for value in values for one in self._fields(value, VALUE_NAME)]
                found += [name for name in names if name not in weights]
        return ends

    def branch_on_data(self) -> str:
        """The first control-flow operator whose decision depends on the values of the inputs; empty where there is
        none. Decisions by shapes or constants do not count."""
        for graph in self._graphs:
            nodes = list(self._fields(graph, NODE))
            if not any(self._is_control(node) for node in nodes):
                continue
            found = self._first_branch(nodes, self._data_inputs(graph))
            if found:
                return found
        return ""

    def shape_nodes(self) -> dict[str, bool]:
        """By name of a node: whether its outputs depend on the sizes of the inputs at most, not on their values."""
        found: dict[str, bool] = {}
        for graph in self._graphs:
            data = self._data_inputs(graph)
            for node in self._fields(graph, NODE):
                carries = self._carries_data(node, data)
                found.update((self._text(one), not carries) for one in self._fields(node, NODE_NAME))
        return found

    def _first_branch(self, nodes: list[Span], data: set[str]) -> str:
        """``data``: the values that depend on those of the inputs; grows along the graph, whose nodes are in order."""
        for node in nodes:
            operator = self._text(next(self._fields(node, OPERATOR)))
            takes = [self._text(one) for one in self._fields(node, TAKES)]
            if operator in CONTROL and data.intersection(takes[CONTROL[operator]]):
                return operator
            self._carries_data(node, data)
        return ""

    def _carries_data(self, node: Span, data: set[str]) -> bool:
        """Whether the outputs of a node depend on the values in ``data``, to which they are added then."""
        operator = self._text(next(self._fields(node, OPERATOR)))
        takes = [self._text(one) for one in self._fields(node, TAKES)]
        if operator in SHAPES or not (operator in CONTROL or data.intersection(takes)):
            return False
        data.update(self._text(one) for one in self._fields(node, GIVES))
        return True

    def _data_inputs(self, graph: Span) -> set[str]:
        """Names of the inputs that are not weights."""
        weights = self._names(graph, INITIALIZER, TENSOR_NAME)
        return self._names(graph, INPUT, VALUE_NAME) - weights

    def _names(self, graph: Span, member: int, name: int) -> set[str]:
        return {self._text(one) for value in self._fields(graph, member) for one in self._fields(value, name)}

    def _is_control(self, node: Span) -> bool:
        return any(self._text(one) in CONTROL for one in self._fields(node, OPERATOR))

    def _text(self, span: Span) -> str:
        return self._data[slice(*span)].decode()

    def _fields(self, span: Span, wanted: int) -> Iterator[Span]:
        """Where the values of one field of a message lie; ``span`` is where the message lies."""
        at, end = span
        while at < end:
            key, at = self._varint(at)
            wire = key & 7
            if wire == VARINT:
                _, at = self._varint(at)
            elif wire == BYTES:
                size, at = self._varint(at)
                if key >> 3 == wanted:
                    yield at, at + size
                at += size
            elif wire in (FIXED64, FIXED32):
                at += 8 if wire == FIXED64 else 4
            else:
                raise ValueError(f"wire type {wire} is not used by ONNX")

    def _varint(self, at: int) -> Span:
        """A number, and where it ends."""
        value = shift = 0
        while True:
            byte = self._data[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return value, at
            shift += 7


def unranked_inputs(path: Path) -> list[str]:
    """As :meth:`OnnxFile.unranked_inputs`; none for a file that is not understood."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return OnnxFile(data).unranked_inputs()
        except (IndexError, ValueError):
            return []


def end_names(path: Path) -> tuple[list[str], list[str]]:
    """As :meth:`OnnxFile.end_names`; none for a file that is not understood."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return OnnxFile(data).end_names()
    except (IndexError, ValueError):  # an empty file cannot be mapped
        return [], []


def branch_on_data(path: Path) -> str:
    """As :meth:`OnnxFile.branch_on_data`; empty for a file that is not understood."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return OnnxFile(data).branch_on_data()
        except (IndexError, ValueError, StopIteration):
            return ""


def shape_nodes(path: Path) -> dict[str, bool]:
    """As :meth:`OnnxFile.shape_nodes`; none for a file that is not understood."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return OnnxFile(data).shape_nodes()
        except (IndexError, ValueError, StopIteration):
            return {}
