"""Tensor specifications: the dtype table, names, shapes and axes of a model's inputs and outputs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
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

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its place in the table: codecs compare dtypes by identity."""
        return _dtype, (next(index for index, one in enumerate(_all_dtypes()) if one is self),)


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

BF16 = DType("BF16", "tensor(bfloat16)", np.dtype(np.float32), 2)
"""Arrays of bfloat16 are float32 in the server; the backend and the binary formats convert them."""


def _all_dtypes() -> tuple[DType, ...]:
    return (*DTYPES, RAW_BYTES, BF16)


def _dtype(index: int) -> DType:
    return _all_dtypes()[index]


BY_NAME = {row.name: row for row in (*DTYPES, BF16)}
BY_ONNX = {row.onnx: row for row in (*DTYPES, BF16)}
BY_NUMPY = {row.numpy: row for row in DTYPES}


MADE_UP_AXIS = re.compile(r"\?|unk__\d+|.*_dynamic_axes_\d+|None|unknown.*|dynamic.*", re.IGNORECASE)
"""Names that exporters make up for an axis of one tensor: two of them may differ and still mean one batch axis."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and shape of one tensor; -1 stands for any size, and the batch axis is included.

    ``axes``: the symbolic name of each axis, empty where it has none; two axes of one name have one size.
    ``missing``: NaN is accepted as a value of this input. ``infinite``: infinity is accepted, as in an additive mask.
    ``labels``: of an output, the names of its values in a row.
    These four do not count when two specs are compared.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    axes: tuple[str, ...] = field(default=(), compare=False)
    missing: bool = field(default=False, compare=False)
    infinite: bool = field(default=False, compare=False)
    labels: tuple[str, ...] = field(default=(), compare=False)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits, variable axes taking any size."""
        if len(shape) != len(self.shape):
            return False
        for want, have in zip(self.shape, shape, strict=True):  # noqa: SIM110 - twice as fast as a generator
            if want not in (-1, have):
                return False
        return True

    @property
    def batch_name(self) -> str:
        """The name of the first axis; empty where it has none, or one that an exporter made up for this tensor."""
        name = self.axes[0] if self.axes else ""
        return "" if MADE_UP_AXIS.fullmatch(name) else name

    def to_json(self) -> dict[str, Any]:
        """Name, datatype and shape; ``missing`` only where it is true."""
        row: dict[str, Any] = {"name": self.name, "datatype": self.dtype.name, "shape": list(self.shape)}
        return {**row, "missing": True} if self.missing else row

    @classmethod
    def from_json(cls, row: Any) -> TensorSpec:
        """Raises BrokenArtifact when a field is absent or wrong, or the datatype is not in the table."""
        match row:
            case {"name": str(name), "datatype": str(datatype), "shape": list(shape)} if datatype in BY_NAME and all(
                type(size) is int and size >= -1 for size in shape
            ):
                return cls(name, BY_NAME[datatype], tuple(shape), missing=row.get("missing") is True)
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
        """Whether the first axis of all tensors can be one batch axis: of any size, and not named differently.

        Whether its rows are independent is shown at load; this only says that a request consists of rows.
        """
        rows = bool(self.inputs) and all(spec.shape[:1] == (-1,) for spec in (*self.inputs, *self.outputs))
        return rows and len({spec.batch_name for spec in self.inputs} - {""}) <= 1


def describe_shape(shape: tuple[int, ...]) -> str:
    """``(-1, 64)`` as ``[any, 64]``: how error messages speak of shapes."""
    return "[" + ", ".join("any" if size == -1 else str(size) for size in shape) + "]"


def bfloat16_of_float32(array: Array) -> Array:
    """float32 as the bits (uint16) of bfloat16, rounded to the nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def float32_of_bfloat16(bits: Array) -> Array:
    """The float32 values of bfloat16 bits (uint16)."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
