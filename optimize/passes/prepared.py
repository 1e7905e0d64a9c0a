"""The prepared graph: constants folded, shapes inferred, every node named. The static quantizer starts from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

SYMBOLIC = "slipway.symbolic_shape_inference"


def prepare(reference: Path) -> tuple[Path, bool]:
    """The prepared graph of ``reference``, in a file beside it, made once for all candidates with the same graph.

    Returns the file, and whether symbolic shape inference succeeded; when it fails, the graph is prepared without it.
    """
    import onnx

    target = reference.with_name(f"{reference.stem}.prepared.onnx")
    if not target.exists():
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            model = _prepared(reference, partial)
            for position, node in enumerate(model.graph.node):
                node.name = node.name or f"{node.op_type}_{position}"
            onnx.save(model, partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    found = onnx.load(target, load_external_data=False)
    return target, any(entry.key == SYMBOLIC and entry.value == "yes" for entry in found.metadata_props)


def _prepared(reference: Path, scratch: Path) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    symbolic = "yes"
    try:
        quant_pre_process(reference, scratch)
    except Exception:  # noqa: BLE001 - symbolic shape inference raises plain Exception
        symbolic = "no"
        quant_pre_process(reference, scratch, skip_symbolic_shape=True)
    model = onnx.load(scratch)
    entry = model.metadata_props.add()
    entry.key, entry.value = SYMBOLIC, symbolic
    return model
