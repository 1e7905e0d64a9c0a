"""Pass: FP8 (E4M3) in the place of int8: the same pairs with scales for the larger range. For SM 8.9 and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, failed

if TYPE_CHECKING:
    import onnx

INT8_LARGEST, FP8_LARGEST = 127.0, 448.0
"""The largest magnitudes of both formats. A scale is the largest value seen over this number."""


def apply(job: PassJob) -> PassRecord:
    """Rewrite every int8 pair of ``symmetric_qdq_from_float32``, whose scales may be float32 or half.

    Raises PassFailed when there is none. The answers are right only where FP8 is computed: ONNX Runtime's optimizer for
    processors treats these pairs like int8.
    """
    import onnx

    target = job.workdir / "model.onnx"
    with captured_output.captured() as said:
        try:
            model = onnx.load(job.reference)
            pairs = rewrite(model)
            onnx.save(model, target)
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error, "the rewriting") from error
    return PassRecord(target, {"fp8_pairs": pairs}, tuple(said), float_graph=None)


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
