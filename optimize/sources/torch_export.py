"""Source: a ``.pt2`` file of ``torch.export.save``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.artifact import digest
from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from ..sandbox.captured_output import captured
from . import Exported, SourceModel, SourceSpec, axes
from .torch_module import brief, cause, exactly, flatten, output_names, rename


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Load the exported program. Axes that the export fixed stay fixed. Raises BadInput."""
    import torch

    try:
        with captured():
            program = torch.export.load(request.path)
    except Exception as error:
        raise BadInput(
            f"{request.path} cannot be opened without running code in it, or is no .pt2 of torch "
            f"{torch.__version__}: {brief(error)}"
        ) from error
    names, positional = signature(program)
    exactly(names, data)
    free = request.axes or axes.without(free_axes(program, names), request.fixed)

    def run(batch: Mapping[str, Array]) -> list[Array]:
        return flatten(_call(program, names, positional, batch))

    def export(_: Mapping[str, Array], path: Path, _axes: object) -> Exported:
        return _export(program, names, outputs, path)

    outputs = output_names(
        request.reference, _call(program, names, positional, data.select(names).batch(2)), request.outputs
    )
    digests = {"program": digest(request.path)}
    return SourceModel(request.reference, names, outputs, run, export, digests, free)


def signature(program: Any) -> tuple[tuple[str, ...], int]:
    """Return the input names in order and the number of positional inputs. Raises BadInput for nested inputs."""
    positional, named = program.call_spec.in_spec.children()
    names = tuple(str(name) for name in program.graph_signature.user_inputs)
    if positional.num_leaves != positional.num_children or named.num_leaves != named.num_children:
        raise BadInput("the exported program takes nested inputs: wrap the model so that each input is one tensor")
    return names[: positional.num_children] + tuple(named.context or ()), positional.num_children


def free_axes(program: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the axes besides the batch that the export left symbolic."""
    from .axes import Axis

    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    axes = []
    for name, inner in zip(names, program.graph_signature.user_inputs, strict=True):
        for position, size in enumerate(nodes[inner].meta["val"].shape):
            if position and not isinstance(size, int):
                axes.append(Axis(name, position, str(size)))
    return tuple(axes)


def _call(program: Any, names: tuple[str, ...], positional: int, batch: Mapping[str, Array]) -> Any:
    import torch

    tensors = {name: torch.from_numpy(batch[name].copy()) for name in names}
    values = list(tensors.values())
    try:
        with torch.inference_mode():
            return program.module()(*values[:positional], **dict(list(tensors.items())[positional:]))
    except Exception as error:
        rows = len(values[0])
        raise BadInput(
            f"the exported program does not run on {rows} row(s) of the data ({brief(error)}): if the export fixed "
            'the batch size, export it again with dynamic_shapes, axis 0 as torch.export.Dim("batch")'
        ) from error


def _export(program: Any, names: tuple[str, ...], outputs: tuple[str, ...], path: Path) -> Exported:
    import onnx
    import onnx_ir
    import torch

    from .torch_module import OPSET

    with captured() as messages:
        try:
            written = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        except Exception as error:
            raise ExportFailed(f"the exported program cannot be written as ONNX: {cause(error)}") from error
    if written is None:
        raise ExportFailed("the exporter returned nothing")
    rename(written.model, names, outputs)
    onnx.save(onnx_ir.to_proto(written.model), path)
    return Exported("dynamo", tuple(messages))
