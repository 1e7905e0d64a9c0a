"""Pass: FP8 (E4M3) in the place of int8: the same pairs with scales for the larger range. For SM 8.9 and later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, failed, twin

if TYPE_CHECKING:
    import onnx
    import onnx_ir

INT8_LARGEST, FP8_LARGEST = 127.0, 448.0
"""The largest magnitudes of both formats. A scale is the largest value seen over this number."""


def apply(job: PassJob) -> PassRecord:
    """Rewrite every int8 pair of ``symmetric_qdq_from_float32``, whose scales may be float32 or half.

    The file's answers are right only where FP8 is computed, because ONNX Runtime's optimizer for processors treats
    these pairs like int8; the twin's are right everywhere. Raises PassFailed when there is no pair.
    """
    import onnx

    target = job.workdir / "model.onnx"
    with captured_output.captured() as said:
        try:
            model = onnx.load(job.reference)
            pairs = rewrite(model)
            onnx.save(model, target)
            judged = _twin(target, job.workdir / "twin.onnx")
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error, "the rewriting") from error
    return PassRecord(target, {"fp8_pairs": pairs}, tuple(said), twin=judged)


def _twin(source: Path, target: Path) -> Path:
    """The twin, in which every pair is a cast to FP8 and back."""
    import onnx_ir

    twin.write(source, target)
    model = onnx_ir.load(target)
    for node in list(model.graph):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            _as_casts(model.graph, node)
    onnx_ir.save(model, target)
    return target


def _as_casts(graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
    """Replace a quantization by a division and a cast to FP8, and a dequantization by a cast back and a product."""
    import onnx_ir

    quantizes = node.op_type == "QuantizeLinear"
    kind = onnx_ir.DataType.FLOAT8E4M3FN if quantizes else onnx_ir.DataType.FLOAT
    value, scale = node.inputs[0], node.inputs[1]
    to = [onnx_ir.AttrInt64("to", int(kind))]
    if quantizes:
        first = onnx_ir.Node("", "Div", [value, scale], name=f"{node.name}_divided")
        last = onnx_ir.Node("", "Cast", [first.outputs[0]], to, name=f"{node.name}_cast")
    else:
        first = onnx_ir.Node("", "Cast", [value], to, name=f"{node.name}_cast")
        last = onnx_ir.Node("", "Mul", [first.outputs[0], scale], name=f"{node.name}_scaled")
    old, new = node.outputs[0], last.outputs[0]
    name, first.outputs[0].name, old.name = old.name, f"{old.name}_between", f"{old.name}_replaced"
    new.name, new.type, new.shape = name, onnx_ir.TensorType(kind), old.shape
    onnx_ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.insert_before(node, [first, last])
    graph.remove(node, safe=True)


def rewrite(model: onnx.ModelProto) -> int:
    """Rewrite ``model`` in place; return the number of quantizations. Weights get one scale, the largest of theirs."""
    from onnx import TensorProto, helper, numpy_helper

    constants = {one.name: one for one in model.graph.initializer}
    pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    if not pairs:
        raise PassFailed("nothing to rewrite: the graph has no quantize pairs")
    for name in sorted({node.input[1] for node in pairs}):
        scale = numpy_helper.to_array(constants[name])
        wider = scale.astype(np.float64).max() * (INT8_LARGEST / FP8_LARGEST)
        constants[name].CopyFrom(numpy_helper.from_array(np.asarray(wider, scale.dtype), name))
    for name in sorted({node.input[2] for node in pairs}):
        zero = helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, (), b"\0", raw=True)
        constants[name].CopyFrom(zero)
    made = {node.output[0] for node in pairs if node.op_type == "QuantizeLinear"}
    for node in pairs:
        # One scale needs no axis.
        kept = [one for one in node.attribute if one.name != "axis"]
        del node.attribute[:]
        node.attribute.extend(kept)
    changed = {name for node in pairs for name in (*node.input[1:3], *node.output) if name in constants or name in made}
    for one in [one for one in model.graph.value_info if one.name in changed]:
        model.graph.value_info.remove(one)
    return sum(node.op_type == "QuantizeLinear" for node in pairs)
