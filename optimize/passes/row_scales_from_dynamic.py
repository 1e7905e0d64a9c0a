"""Pass: dynamic int8 with one activation scale per row or token, so that the rows of a batch do not change each other.

Rewrites the graph of the dynamic pass: every DynamicQuantizeLinear, whose scale covers the whole batch, becomes a
symmetric quantization along the last axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from server.tensors import Array

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, failed

if TYPE_CHECKING:
    import onnx

MIDDLE, LARGEST = 128, 127.0
"""Zero point of the unsigned activations, and the quantized value of the largest magnitude of a row."""

SMALLEST_SCALE = 1e-30
"""A row of zeros needs a scale that is not zero."""

AXES_AS_INPUT = 18
"""The opset from which on ReduceMax takes its axes as an input."""


def apply(job: PassJob) -> PassRecord:
    """Give every row its own scale. Raises PassFailed when the graph quantizes activations in another way."""
    import onnx

    target = job.workdir / "model.onnx"
    with captured_output.captured() as messages:
        try:
            model = onnx.load(job.reference)
            count = rewrite(model)
            onnx.save(model, target)
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error, "the rewriting") from error
    return PassRecord(target, {"scales": "per row", "rewritten": count}, tuple(messages))


def rewrite(model: onnx.ModelProto) -> int:
    """Rewrite ``model`` in place and return the number of quantizations. Raises PassFailed if there is none, or if a
    result is used by another operator than a matrix product and the scaling behind it."""
    from onnx import numpy_helper

    graph = model.graph
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    found = [node for node in graph.node if node.op_type == "DynamicQuantizeLinear"]
    if not found:
        raise PassFailed("no activation is quantized by DynamicQuantizeLinear")
    _check_users(graph, found)
    constants: dict[str, Array] = {
        "row_scales_one": np.array(1, np.float32),
        "row_scales_steps": np.array(LARGEST, np.float32),
        "row_scales_smallest": np.array(SMALLEST_SCALE, np.float32),
        "row_scales_zero_point": np.array(MIDDLE, np.uint8),
    }
    if opset >= AXES_AS_INPUT:
        constants["row_scales_axes"] = np.array([-1], np.int64)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    nodes = []
    zero_points = {node.output[2]: "row_scales_zero_point" for node in found}
    scales = {node.output[1] for node in found}
    products: dict[str, tuple[str, str]] = {}
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            nodes += _quantize(node, axes_as_input=opset >= AXES_AS_INPUT)
        elif node.op_type == "Mul" and set(node.input) & scales:
            row, weight = sorted(node.input, key=lambda name: name not in scales)
            products[node.output[0]] = (row, weight)
        elif node.op_type == "Mul" and set(node.input) & set(products):
            nodes += _scaled(node, products)
        else:
            node.input[:] = [zero_points.get(name, name) for name in node.input]
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return len(found)


def _check_users(graph: onnx.GraphProto, found: list[onnx.NodeProto]) -> None:
    quantized = {node.output[0] for node in found} | {node.output[2] for node in found}
    scales = {node.output[1] for node in found}
    products = {node.output[0] for node in graph.node if node.op_type == "Mul" and set(node.input) & scales}
    for node in graph.node:
        if products & set(node.input) and node.op_type != "Mul":
            raise PassFailed(f"{node.op_type} takes the scale of a whole batch")
        used = quantized & set(node.input)
        if used and node.op_type != "MatMulInteger":
            raise PassFailed(f"{node.op_type} takes quantized activations with one scale for the whole batch")
        if used and node.input[0] not in quantized:
            raise PassFailed(
                "the activations are the right factor of a product, where a scale per row does not factor out"
            )
        if scales & set(node.input) and node.op_type != "Mul":
            raise PassFailed(f"{node.op_type} takes the scale of a whole batch")


def _scaled(node: onnx.NodeProto, products: Mapping[str, tuple[str, str]]) -> list[onnx.NodeProto]:
    """Scale a product by its rows, then by its weights.

    One multiplication by the product of both scales would be fused by ONNX Runtime into a kernel for one scale per
    batch, which gives other values for one scale per row.
    """
    from onnx import helper

    scale = next(name for name in node.input if name in products)
    value = next(name for name in node.input if name != scale)
    row, weight = products[scale]
    between, output = f"{node.output[0]}_by_row", node.output[0]
    return [
        helper.make_node("Mul", [value, row], [between], name=f"{between}_Mul"),
        helper.make_node("Mul", [between, weight], [output], name=f"{output}_Mul"),
    ]


def _quantize(node: onnx.NodeProto, *, axes_as_input: bool) -> list[onnx.NodeProto]:
    """The nodes that compute the quantized values and the scales [..., 1] under the names of ``node``'s outputs."""
    from onnx import helper

    value, (quantized, scale) = node.input[0], node.output[:2]
    at = f"{quantized}_rows"

    def make(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [output], name=f"{output}_{kind}", **attributes)

    axes = ["row_scales_axes"] if axes_as_input else []
    attributes: dict[str, Any] = {"keepdims": 1} if axes_as_input else {"keepdims": 1, "axes": [-1]}
    return [
        make("ReduceMax", [value, *axes], f"{at}_max", **attributes),
        make("ReduceMin", [value, *axes], f"{at}_min", **attributes),
        make("Neg", [f"{at}_min"], f"{at}_negative"),
        make("Max", [f"{at}_max", f"{at}_negative", "row_scales_smallest"], f"{at}_largest"),
        make("Div", [f"{at}_largest", "row_scales_steps"], scale),
        make("Div", ["row_scales_steps", f"{at}_largest"], f"{at}_inverse"),
        make("Mul", [value, f"{at}_inverse"], f"{at}_divided"),
        make("QuantizeLinear", [f"{at}_divided", "row_scales_one", "row_scales_zero_point"], quantized),
    ]
