"""Tensor specifications: the dtype table, names and shapes of a model's inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BrokenArtifact

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class DType:
    """One row of the dtype table.

    ``name`` is the Open Inference Protocol's word, ``onnx`` is ONNX Runtime's, ``numpy`` what arrays carry;
    ``itemsize`` is in bytes, 0 for strings, which have no fixed size.
    """

    name: str
    onnx: str
    numpy: np.dtype[Any]
    itemsize: int


def _row(name: str, onnx: str, numpy: str) -> DType:
    dtype = np.dtype(numpy)
    return DType(name, onnx, dtype, 0 if dtype.kind == "O" else dtype.itemsize)


DTYPES: tuple[DType, ...] = (
    _row("BOOL", "tensor(bool)", "bool"),
    _row("UINT8", "tensor(uint8)", "uint8"),
    _row("UINT16", "tensor(uint16)", "uint16"),
    _row("UINT32", "tensor(uint32)", "uint32"),
    _row("UINT64", "tensor(uint64)", "uint64"),
    _row("INT8", "tensor(int8)", "int8"),
    _row("INT16", "tensor(int16)", "int16"),
    _row("INT32", "tensor(int32)", "int32"),
    _row("INT64", "tensor(int64)", "int64"),
    _row("FP16", "tensor(float16)", "float16"),
    _row("FP32", "tensor(float)", "float32"),
    _row("FP64", "tensor(double)", "float64"),
    _row("BYTES", "tensor(string)", "object"),
)
RAW_BYTES = DType("BYTES", "", np.dtype(object), 0)
"""BYTES that need not be text, such as an image: to the protocols the same type, to codecs and backends another one."""

BY_NAME = {row.name: row for row in DTYPES}
BY_ONNX = {row.onnx: row for row in DTYPES}
BY_NUMPY = {row.numpy: row for row in DTYPES}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one tensor; -1 stands for any size, and the batch axis is included."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits, variable axes taking any size."""
        return len(shape) == len(self.shape) and all(
            want in (-1, have) for want, have in zip(self.shape, shape, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.dtype.name, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, row: Any) -> TensorSpec:
        """Raises BrokenArtifact when a field is missing or wrong, or the datatype is not in the table."""
        match row:
            case {"name": str(name), "datatype": str(datatype), "shape": list(shape)} if datatype in BY_NAME and all(
                type(size) is int and size >= -1 for size in shape
            ):
                return cls(name, BY_NAME[datatype], tuple(shape))
        raise BrokenArtifact(
            f"a tensor needs a name, a shape of whole numbers (-1 for any size) and a datatype out of "
            f"{', '.join(BY_NAME)}; got {row!r}"
        )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Inputs and outputs of a model, in the order in which arrays are passed around everywhere."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def batchable(self) -> bool:
        """Whether every tensor has a variable first axis, so that rows of several requests can share one run."""
        return all(spec.shape[:1] == (-1,) for spec in (*self.inputs, *self.outputs))


def describe_shape(shape: tuple[int, ...]) -> str:
    """``(-1, 64)`` as ``[any, 64]``: how error messages speak of shapes."""
    return "[" + ", ".join("any" if size == -1 else str(size) for size in shape) + "]"
