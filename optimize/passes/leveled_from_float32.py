"""Pass: the graph after ONNX Runtime's own optimizations, so that loading does not repeat them.

Weights are stored in a file beside the graph, aligned and packed for the kernels; loading maps them instead of copying.
Accepts every graph for ONNX Runtime, quantized or not.
"""

from __future__ import annotations

from pathlib import Path

from ..sandbox import captured_output
from . import PassJob, PassRecord, aligned_data, failed

SMALLEST_OUTSIDE_BYTES = 1024
"""Smaller weights stay in the graph."""


def apply(job: PassJob) -> PassRecord:
    """``level``: ``extended`` fits every processor of this kind; ``all`` also takes the memory layout of this one.

    Raises PassFailed when ONNX Runtime cannot load or write the graph.
    """
    level = str(job.options["level"])
    target = job.workdir / "model.onnx"
    with captured_output.captured() as said:
        try:
            write(job.reference, target, level)
        except Exception as error:
            raise failed(error, "ONNX Runtime") from error
    return PassRecord(target, {"level": level, "mapped": True}, tuple(said))


def write(source: Path, target: Path, level: str) -> None:
    """Optimize ``source`` into ``target`` and ``target`` + ``.data``, with aligned weights.

    Raises what ONNX Runtime raises.
    """
    import onnxruntime as ort

    levels = {
        "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    settings = ort.SessionOptions()
    settings.graph_optimization_level = levels[level]
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(target)
    for key, value in (
        ("session.optimized_model_external_initializers_file_name", f"{target.name}.data"),
        ("session.optimized_model_external_initializers_min_size_in_bytes", str(SMALLEST_OUTSIDE_BYTES)),
        ("session.save_external_prepacked_constant_initializers", "1"),
    ):
        settings.add_session_config_entry(key, value)
    ort.InferenceSession(str(source), settings, providers=["CPUExecutionProvider"])
    aligned_data.align(target)
