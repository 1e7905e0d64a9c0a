"""Source: a TorchScript file of ``torch.jit.save``. Only the tracing exporter reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from server.artifact import digest
from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from ..sandbox.captured_output import captured
from . import Exported, SourceModel, SourceSpec
from .axes import Axis, symbols
from .torch_module import brief, call, cause, exactly, flatten, output_names, rename, traced


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Load the file on the CPU. Its inputs are the arguments of ``forward``. Raises BadInput."""
    import torch

    try:
        with captured():
            script = torch.jit.load(str(request.path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise BadInput(f"{request.path} cannot be read as TorchScript: {brief(error)}") from error
    arguments = script.forward.schema.arguments[1:]
    inputs = exactly(tuple(a.name for a in arguments if a.name in data.inputs or not a.has_default_value()), data)
    outputs = output_names(request.reference, call(script, data.select(inputs).batch(2)), request.outputs)

    def run(batch: Mapping[str, Array]) -> list[Array]:
        return flatten(call(script, batch))

    def export(example: Mapping[str, Array], path: Path, axes: Sequence[Axis]) -> Exported:
        import onnx
        import onnx_ir

        with captured() as messages:
            try:
                model = traced(script, example, len(outputs), symbols(axes, inputs))
            except Exception as error:
                raise ExportFailed(f"the script cannot be written as ONNX: {cause(error)}") from error
        rename(model, inputs, outputs)
        onnx.save(onnx_ir.to_proto(model), path)
        return Exported("torchscript", tuple(messages))

    digests = {"script": digest(request.path)}
    return SourceModel(
        request.reference, inputs, outputs, run, export, digests, request.axes, axes_required=bool(request.axes)
    )
