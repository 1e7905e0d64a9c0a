"""Recorded shapes of an ONNX file: repaired where exporters leave them out, and read for the axis of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from server.tensors import Array

from ..evaluation.dataset import Dataset, Layout
from .axes import BATCH, PLACEHOLDERS

if TYPE_CHECKING:
    import onnx

OLDEST_IR = 4
"""The first format version in which weights need not be inputs too."""


def normalize(model: onnx.ModelProto) -> None:
    """Repair the signature in place.

    Recorded shapes of inner values are dropped, because they may be stale. Weights are no inputs. A negative size is a
    free axis.
    """
    del model.graph.value_info[:]
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)
        model.ir_version = max(model.ir_version, OLDEST_IR)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")


def complete_inputs(model: onnx.ModelProto, data: Dataset) -> None:
    """Give each input without a shape the rank of its rows in ``data``, with free axes."""
    for value in model.graph.input:
        if not value.type.tensor_type.HasField("shape"):
            _free(value, data.inputs[value.name].ndim)


def complete_outputs(model: onnx.ModelProto, answers: Sequence[Array]) -> None:
    """Give each output without a shape the rank of ``answers``, with free axes. Correct a wrong rank."""
    for value, answer in zip(model.graph.output, answers, strict=True):
        shape = value.type.tensor_type.shape
        if not value.type.tensor_type.HasField("shape") or len(shape.dim) != answer.ndim:
            _free(value, answer.ndim)


def _free(value: Any, rank: int) -> None:
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.shape.SetInParent()
    for position in range(rank):
        dim = value.type.tensor_type.shape.dim.add()
        if position == 0:
            dim.dim_param = BATCH


def layout(model: onnx.ModelProto) -> Layout:
    """Find the axis of the rows of each input.

    It is axis 0 if that is free. Otherwise it is the axis with the name that axis 0 of the other inputs has, as in a
    state ``[2, batch, 128]``. A scalar has none. In a graph of fixed sizes, inputs that disagree on axis 0 hold one row
    each: the rows of a state are then on its first later axis of size 1.
    """
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    firsts = Counter(dims[0].dim_param for dims in shapes.values() if dims and not dims[0].HasField("dim_value"))
    sizes = {dims[0].dim_value for dims in shapes.values() if dims and dims[0].HasField("dim_value")}
    batch = firsts.most_common(1)[0][0] if firsts else None
    single = batch is None and len(sizes) > 1
    found: dict[str, int | None] = {}
    for name, dims in shapes.items():
        axis = _row_axis(dims, batch, single=single)
        if axis != 0:
            found[name] = axis
    return Layout(found, 1 if single else None)


def _row_axis(dims: Any, batch: str | None, *, single: bool) -> int | None:
    if not dims:
        return None
    if not dims[0].HasField("dim_value"):
        return 0
    if single:
        return next((at for at, dim in enumerate(dims) if dim.HasField("dim_value") and dim.dim_value == 1), None)
    if batch is None:
        return 0
    return next((at for at, dim in enumerate(dims) if not dim.HasField("dim_value") and dim.dim_param == batch), None)


def declare(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    free: Mapping[tuple[str, int], str],
    places: Layout,
    answers: Mapping[str, Sequence[Array]],
) -> None:
    """Write the shapes that the proof verifies into the signature.

    ``inputs``: one array per input. ``free``: names of the free axes by input and position. ``answers``: the source's
    outputs at all probes, by output; an axis of an output that differs among them is free, whatever the file says.
    """
    for value in model.graph.input:
        dims, array, axis = value.type.tensor_type.shape.dim, inputs[value.name], places.of(value.name)
        for position, dim in enumerate(dims):
            name = free.get((value.name, position))
            if position == axis and places.run_rows is None:
                dim.dim_param = BATCH
            elif name:
                dim.dim_param = name
            else:
                dim.dim_value = array.shape[position]
    for value in model.graph.output:
        dims = value.type.tensor_type.shape.dim
        seen = answers[value.name]
        for position, dim in enumerate(dims):
            sizes = {array.shape[position] for array in seen}
            if dim.HasField("dim_value") and sizes != {dim.dim_value}:
                _release(dim, sizes, f"{value.name}_{position}")
            elif not dim.HasField("dim_value") and PLACEHOLDERS.fullmatch(dim.dim_param):
                dim.dim_param = BATCH if position == 0 and places.run_rows is None else f"{value.name}_{position}"


def _release(dim: Any, sizes: set[int], name: str) -> None:
    """Correct a size that the answers contradict: to their size if they agree, else to a free axis."""
    if len(sizes) == 1:
        dim.dim_value = sizes.pop()
    else:
        dim.dim_param = name
