"""The judging twin: a float32 graph that rounds as a half-precision graph does on an accelerator.

ONNX Runtime computes neighbouring half-precision nodes in float32 on a processor and leaves out the casts between them,
so that a run of the half-precision file shows neither its rounding nor its overflows. The twin computes in float32 and
casts every value to half and back. Products are summed in float32 there and here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir


def write(half: Path, target: Path) -> Path:
    """Write the twin of the graph in ``half`` to ``target``, and return it. A graph without halves is copied."""
    import onnx_ir

    model = onnx_ir.load(half)
    widen(model)
    onnx_ir.save(model, target)
    return target


def widen(model: onnx_ir.Model) -> int:
    """Turn ``model`` into its twin in place. Returns how many values are rounded.

    Every float16 and bfloat16 value becomes float32. After each node that made one, a Cast to the type and one back
    round it; constants are rounded already. Inputs and outputs of the graph in half become float32, too.
    """
    import onnx_ir

    graph, low = model.graph, _low_values(model)
    for value in graph.initializers.values():
        if value in low and value.const_value is not None:
            value.const_value = _wide(value.const_value.numpy(), str(value.name))
    for value in low:
        value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    rounded = 0
    for value in graph.inputs:
        if value in low:
            _round(graph, value, low[value])
            rounded += 1
    for node in list(graph):
        if node.op_type == "Constant" and any(value in low for value in node.outputs):
            node.attributes["value"] = onnx_ir.AttrTensor("value", _wide(node.attributes["value"].as_tensor().numpy()))
            continue
        if node.op_type == "Cast" and node.outputs[0] in low:
            # The rounding below does what this cast did.
            node.attributes["to"] = onnx_ir.AttrInt64("to", int(onnx_ir.DataType.FLOAT))
        for value in node.outputs:
            if value in low:
                _round(graph, value, low[value])
                rounded += 1
    return rounded


def _low_values(model: onnx_ir.Model) -> dict[onnx_ir.Value, onnx_ir.DataType]:
    """Every value of the graph in a 16-bit float type, with this type."""
    import onnx_ir

    half = (onnx_ir.DataType.FLOAT16, onnx_ir.DataType.BFLOAT16)
    graph = model.graph
    values = (*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs))
    return {value: value.dtype for value in values if value.dtype in half}


def _wide(array: object, name: str | None = None) -> onnx_ir.Tensor[Any]:
    import onnx_ir

    return onnx_ir.Tensor(np.asarray(array).astype(np.float32), name=name)


def _round(graph: onnx_ir.Graph, value: onnx_ir.Value, to: onnx_ir.DataType) -> None:
    """Cast ``value`` to ``to`` and back, and let every reader, an output of the graph too, take the rounded value."""
    import onnx_ir

    name, producer = value.name, value.producer()
    down = onnx_ir.Node("", "Cast", [value], [onnx_ir.AttrInt64("to", int(to))], name=f"{name}_down")
    back = onnx_ir.Node("", "Cast", [down.outputs[0]], [onnx_ir.AttrInt64("to", int(onnx_ir.DataType.FLOAT))])
    back.name = f"{name}_back"
    down.outputs[0].name, down.outputs[0].type = f"{name}_low", onnx_ir.TensorType(to)
    made = back.outputs[0]
    made.name, made.type, made.shape = f"{name}_rounded", onnx_ir.TensorType(onnx_ir.DataType.FLOAT), value.shape
    for user, position in list(value.uses()):
        if user is not down:
            user.replace_input_with(position, made)
    if producer is None:
        graph.insert_before(graph[0], [down, back])
    else:
        graph.insert_after(producer, [down, back])
    for position, output in enumerate(list(graph.outputs)):
        if output is value:
            value.name, made.name = f"{name}_exact", name
            graph.outputs[position] = made
