"""Pass: attention, normalisation and activation functions as single nodes of ONNX Runtime."""

from __future__ import annotations

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, failed

ATTENTION = ("attention", "sdpa_via_mha", "mha1", "mha2", "gqa")
"""The names that the fusions give to the forms of attention that they find."""


def apply(job: PassJob) -> PassRecord:
    """Fuse with the patterns of onnxscript. They find attention in graphs of the dynamo exporter, where ONNX Runtime's
    own optimizer finds none. The record counts the fused nodes by pattern.

    Raises PassFailed when a pattern breaks, or when nothing was found.
    """
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    target = job.workdir / "model.onnx"
    with captured_output.captured() as said:
        try:
            fused, counts = optimize_for_ort(onnx_ir.load(job.reference))
            # Types of inner values stay in the file: they cannot be inferred through nodes that are not standard.
            onnx_ir.save(fused, target)
        except Exception as error:
            raise failed(error, "the fusion") from error
    if not any(counts.values()):
        raise PassFailed("nothing to fuse: the graph has none of the patterns")
    applied = {f"fused_{name}": count for name, count in sorted(counts.items()) if count}
    return PassRecord(target, {**applied, "attention": sum(counts.get(name, 0) for name in ATTENTION)}, tuple(said))
