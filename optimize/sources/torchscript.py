"""Source: a TorchScript file that ``torch.jit.save`` wrote; only the older exporter reads those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from server.artifact import digest
from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from ..sandbox import captured_output as quiet
from . import Exported, ReferenceModel, Request
from .axes import symbols
from .torch_module import brief, call, cause, exactly, flatten, output_names, rename, traced


def load(request: Request, data: Dataset) -> ReferenceModel:
    """The script on the CPU; its inputs are the arguments of ``forward``. Raises BadInput."""
    import torch

    try:
        with quiet.captured():
            script = torch.jit.load(str(request.path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise BadInput(f"{request.path} cannot be read as TorchScript: {brief(error)}") from error
    arguments = script.forward.schema.arguments[1:]
    inputs = exactly(tuple(a.name for a in arguments if a.name in data.inputs or not a.has_default_value()), data)
    outputs = output_names(request.reference, call(script, data.select(inputs).batch(2)), request.outputs)

    def run(batch: Mapping[str, Array]) -> list[Array]:
        return flatten(call(script, batch))

    def export(example: Mapping[str, Array], path: Path) -> Exported:
        import onnx
        import onnx_ir

        with quiet.captured() as said:
            try:
                model = traced(script, example, len(outputs), symbols(request.axes, inputs))
            except Exception as error:
                raise ExportFailed(f"the script cannot be written as ONNX: {cause(error)}") from error
        rename(model, inputs, outputs)
        onnx.save(onnx_ir.to_proto(model), path)
        return Exported("torchscript", tuple(said))

    digests = {"script": digest(request.path)}
    return ReferenceModel(request.reference, inputs, outputs, run, export, digests, request.axes)
