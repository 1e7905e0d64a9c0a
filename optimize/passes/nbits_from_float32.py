"""Pass: weights of matrix products in 4 or 8 bits by blocks, activations in float. For models bound by memory."""

from __future__ import annotations

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, contains, failed, nodes_that_make

PACKED = frozenset({"MatMulNBits"})

INT8_ARITHMETIC = 4
"""The kernel's level that multiplies in int8; below it, weights are unpacked to float32 in every run."""


def apply(job: PassJob) -> PassRecord:
    """One scale for each block of ``block`` weights, symmetric.

    Raises PassFailed when the quantizer does, or when no matrix product has constant weights.
    """
    if not contains(job.reference, frozenset({"MatMul"})):
        raise PassFailed("nothing to quantize: the graph has no matrix product")
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    target = job.workdir / "model.onnx"
    bits, block = int(job.options["bits"]), int(job.options["block"])
    with captured_output.captured() as said:
        try:
            quantizer = MatMulNBitsQuantizer(
                onnx.load(job.reference),
                bits=bits,
                block_size=block,
                is_symmetric=True,
                accuracy_level=INT8_ARITHMETIC,
                nodes_to_exclude=nodes_that_make(job.reference, job.keep_float),
            )
            quantizer.process()
            quantizer.model.save_model_to_file(str(target), False)
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error) from error
    if not contains(target, PACKED):
        raise PassFailed("nothing to quantize: no matrix product of the graph has constant weights")
    return PassRecord(target, {"bits": bits, "block": block}, tuple(said), float_graph=job.reference)
