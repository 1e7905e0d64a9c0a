"""Pass: the same graph on ONNX Runtime's CUDA provider. It is never written optimized or packed.

A graph that ONNX Runtime has optimized for a processor holds operators and layouts that only processors have: on a GPU
these nodes would run on the CPU.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from ..errors import PassFailed
from ..evaluation.dataset import Dataset
from ..sources import external_data
from . import PassJob, PassRecord, running
from .running import Running

DEFAULTS: dict[str, str | bool] = {"tf32": False, "graphs": True, "cudnn_conv_algo_search": "HEURISTIC"}
"""Options of the provider that hold until others are measured. TF32 is ONNX Runtime's default, so it is always set."""

NO_KERNEL_OPSET = 22
NO_KERNEL = frozenset({"MaxPool", "Elu", "Selu", "InstanceNormalization", "Mean", "Dropout", "GRU"})
"""Operators that the provider has no kernel for from that opset on, in any type. Seen with 1.31.1."""


def apply(job: PassJob) -> PassRecord:
    """``tf32``: products of float32 with 10 bits of mantissa. ``rows``: the closed numbers of rows, as 1,8,32.

    Raises PassFailed for a graph with an operator of ``NO_KERNEL``, which the provider would leave to the processor.
    """
    refuse(job.reference)
    options = {**DEFAULTS, "tf32": bool(job.options["tf32"])}
    path = place(job.reference, job.workdir, job.calibration, running.rows(job.options), options)
    return PassRecord(path, {"tf32": bool(options["tf32"])})


def refuse(path: Path) -> None:
    """Raise PassFailed for a graph with an operator of ``NO_KERNEL`` in a new opset; bfloat16 needs one."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    found = sorted({node.op_type for node in model.graph.node} & NO_KERNEL) if opset >= NO_KERNEL_OPSET else []
    if found:
        raise PassFailed(
            f"ONNX Runtime has no CUDA kernel for {', '.join(found)} of opset {opset}, which bfloat16 needs"
        )


def place(
    source: Path,
    directory: Path,
    data: Dataset,
    rows: tuple[int, ...],
    options: Mapping[str, str | int | bool] = DEFAULTS,
) -> Path:
    """Copy ``source`` with its weights into ``directory``, with a note that it runs on CUDA, and return the copy."""
    target = directory / "model.onnx"
    shutil.copyfile(source, target)
    for file in external_data.beside(source):
        external_data.place(file, source.parent, directory)
    axes, length = running.free_length(source, data)
    running.mark(target, Running("onnxruntime_cuda", "cuda", options, rows, axes, length))
    return target
