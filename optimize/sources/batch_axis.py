"""Batch axes that an export fixed to one size: detection, and release where only recorded shapes fix them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .axes import BATCH

if TYPE_CHECKING:
    import onnx


def fixed(model: onnx.ModelProto) -> int | None:
    """Return the fixed size of axis 0 if all inputs have the same; None if it is free or differs."""
    weights = {tensor.name for tensor in model.graph.initializer}
    sizes = set()
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in weights and dims:
            sizes.add(dims[0].dim_value if dims[0].HasField("dim_value") else None)
    return sizes.pop() if len(sizes) == 1 else None


def free(model: onnx.ModelProto, size: int) -> tuple[str, ...]:
    """Free the axis in place. Return the names of the changed Reshape nodes.

    Their targets began with ``size`` and begin with 0 now, which copies the size of the input.

    The proof decides whether the freed graph is correct: it compares other row counts with the original file, which
    runs in batches of ``size``.
    """
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and dims[0].dim_value == size:
            dims[0].dim_param = BATCH
    del model.graph.value_info[:]
    return tuple(_reshapes(model, size))


def _reshapes(model: onnx.ModelProto, size: int) -> list[str]:
    from onnx import numpy_helper

    changed = []
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = {node.output[0]: node.attribute[0].t for node in model.graph.node if _holds_tensor(node)}
    for position, node in enumerate(model.graph.node):
        if node.op_type != "Reshape" or any(a.name == "allowzero" and a.i for a in node.attribute):
            continue
        target = weights.get(node.input[1]) or constants.get(node.input[1])
        if target is None:
            continue
        shape = numpy_helper.to_array(target)
        if shape.ndim != 1 or len(shape) < 2 or shape[0] != size:
            continue
        # A shape of its own: other nodes may use the same constant for something else.
        name = f"slipway_shape_{position}"
        freed = np.concatenate([np.zeros(1, np.int64), shape[1:].astype(np.int64)])
        model.graph.initializer.append(numpy_helper.from_array(freed, name))
        node.input[1] = name
        changed.append(node.name or node.output[0])
    return changed


def _holds_tensor(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value"
