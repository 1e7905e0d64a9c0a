"""Pass: matrix products with int8 weights and activations quantized in every run. Needs no calibration."""

from __future__ import annotations

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, contains, failed, nodes_that_make

OPERATORS = frozenset({"MatMul", "Gemm", "Attention"})
"""Convolutions are not quantized, because their dynamic kernel is slow. The quantizer rewrites Gemm to MatMul."""

QUANTIZED = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "QAttention"})


def apply(job: PassJob) -> PassRecord:
    """Weights signed 8-bit and symmetric, activations unsigned; 7-bit weights where the processor would saturate.

    Raises PassFailed when the quantizer does, or when there is nothing in the graph to quantize.
    """
    if not contains(job.reference, OPERATORS):
        raise PassFailed("nothing to quantize: the graph has no matrix product")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = job.workdir / "model.onnx"
    per_channel = bool(job.options["per_channel"])
    reduce_range = not job.hardware.has_int8_dot
    kept = nodes_that_make(job.reference, job.keep_float)
    with captured_output.captured() as said:
        try:
            quantize_dynamic(
                job.reference,
                target,
                op_types_to_quantize=sorted(OPERATORS - {"Gemm"}),
                weight_type=QuantType.QInt8,
                per_channel=per_channel,
                reduce_range=reduce_range,
                # The second name is the one that the quantizer gives to the MatMul of a Gemm.
                nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],
            )
        except Exception as error:
            raise failed(error) from error
    if not contains(target, QUANTIZED):
        raise PassFailed("nothing to quantize: no matrix product of the graph has constant weights")
    applied = {"per_channel": per_channel, "reduce_range": reduce_range}
    return PassRecord(target, applied, tuple(said), float_graph=job.reference)
