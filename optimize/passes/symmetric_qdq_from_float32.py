"""Pass: int8 as TensorRT takes it: symmetric pairs before convolutions and matrix products, and nowhere else.

Zero points are 0, biases stay in float, and weights stay float constants behind a pair of their own, so that a later
pass may put them into another format without rounding them twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, failed, nodes_that_make
from .calibration import Feed, method_of
from .prepared import prepare

if TYPE_CHECKING:
    import onnx

COMPUTE = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""Operators with int8 and FP8 kernels on tensor cores."""

LEAST = 16
"""Channels, and inner and outer sizes of a product, below which tensor cores gain nothing: the layer stays in float."""


def apply(job: PassJob) -> PassRecord:
    """``calibrate``: minmax, percentile or entropy. Layers below ``LEAST`` stay in float.

    Raises PassFailed when the quantizer does, when no layer is large enough, or when its result breaks a rule above.
    """
    import onnx

    target = job.workdir / "model.onnx"
    feed = Feed(job.calibration, job.seed)
    with captured_output.captured() as said:
        try:
            prepared, _ = prepare(job.reference)
            small = too_small(onnx.load(prepared))
            _quantize(prepared, target, feed, str(job.options["calibrate"]),
                      sorted({*small, *nodes_that_make(prepared, job.keep_float)}))  # fmt: skip
            pairs = check(onnx.load(target))
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error) from error
    applied: dict[str, str | int | bool] = {
        "calibrate": str(job.options["calibrate"]),
        "calibration_rows": feed.rows,
        "pairs": pairs,
        "small_layers_in_float": len(small),
    }
    return PassRecord(target, applied, tuple(said), float_graph=prepared)


def too_small(model: onnx.ModelProto) -> list[str]:
    """The names of the layers in COMPUTE without constant weights, or whose weights have a size below ``LEAST``."""
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in COMPUTE:
            continue
        weights = shapes.get(node.input[1], ())
        if node.op_type in ("Conv", "ConvTranspose"):
            group = next((one.i for one in node.attribute if one.name == "group"), 1)
            # A convolution has its group's share of input channels on axis 1, a transposed one of output channels.
            sizes = (weights[0], weights[1] * group) if weights else ()
        else:
            sizes = weights[-2:]
        if len(sizes) < 2 or min(sizes) < LEAST:
            found.append(node.name)
    return found


def check(model: onnx.ModelProto) -> int:
    """The number of quantizations. Raises PassFailed for a graph that breaks one of TensorRT's rules, and for none."""
    from onnx import TensorProto, numpy_helper

    constants = {one.name: one for one in model.graph.initializer}
    count = 0
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type != TensorProto.INT8:
            raise PassFailed(f"{node.name} is not signed 8-bit with a constant zero point")
        if np.any(numpy_helper.to_array(zero)):
            raise PassFailed(f"{node.name} is not symmetric")
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            raise PassFailed(f"{node.name} reads quantized weights, which a later pass would round twice")
        count += node.op_type == "QuantizeLinear"
    if not count:
        raise PassFailed(f"nothing to quantize: no layer has constant weights of {LEAST} channels or more")
    return count


def _quantize(prepared: Path, target: Path, feed: Feed, calibrate: str, excluded: list[str]) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        prepared,
        target,
        feed,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=sorted(COMPUTE),
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=method_of(calibrate),
        nodes_to_exclude=excluded,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
            "MatMulConstBOnly": True,
            "OpTypesToExcludeOutputQuantization": sorted(COMPUTE),
        },
        calibration_cache_path=target.with_name(f"ranges-{calibrate}.json"),
    )
