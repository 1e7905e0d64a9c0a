"""Torch modules: running on arrays, input and output names, and ONNX export. All torch sources use this module."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from ..sandbox.captured_output import captured
from . import Exported, SourceModel, SourceSpec
from .axes import BATCH, Axis, symbols

if TYPE_CHECKING:
    import onnx_ir
    import torch

OPSET = 20
"""The newest opset that both exporters write. It is fixed here so that upgrades of torch do not change it."""


def reference_model(
    request: SourceSpec, module: torch.nn.Module, inputs: tuple[str, ...], data: Dataset, digests: Mapping[str, str]
) -> SourceModel:
    """Run ``module`` on two rows and describe it. Raises BadInput if it fails."""
    module.eval()
    result = call(module, data.select(inputs).batch(2))
    outputs = output_names(request.reference, result, request.outputs)

    def run(batch: Mapping[str, Array]) -> list[Array]:
        return flatten(call(module, batch))

    def export(example: Mapping[str, Array], path: Path, axes: Sequence[Axis]) -> Exported:
        return export_module(module, example, outputs, axes, path)

    return SourceModel(
        request.reference, inputs, outputs, run, export, digests, request.axes, axes_required=bool(request.axes)
    )


def call(module: torch.nn.Module, inputs: Mapping[str, Array]) -> Any:
    """Run the module on arrays without gradients and return its result. Raises BadInput if it fails."""
    import torch

    try:
        with torch.inference_mode():
            return module(**{name: torch.from_numpy(array.copy()) for name, array in inputs.items()})
    except Exception as error:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
        raise BadInput(f"the model fails on rows of the data ({shapes}): {brief(error)}") from error


def flatten(result: Any) -> list[Array]:
    """Convert the result of a module to arrays, in order: a tensor, a sequence of tensors, or the values of a mapping.

    Raises BadInput for other types.
    """
    return [_array(tensor.detach().cpu()) for tensor in tensors(result)]


def tensors(result: Any) -> list[torch.Tensor]:
    """The tensors of a result, as :func:`flatten`."""
    import torch

    values = list(result.values()) if isinstance(result, Mapping) else result
    found = list(values) if isinstance(values, list | tuple) else [values]
    if not found or not all(isinstance(tensor, torch.Tensor) for tensor in found):
        raise BadInput(f"forward() must return a tensor, a tuple of tensors or a dict of them, not {kind(result)}")
    return found


def _array(tensor: torch.Tensor) -> Array:
    """Convert a tensor to an array; bfloat16, which numpy lacks, becomes float32."""
    import torch

    return np.asarray((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())


def input_names(module: torch.nn.Module, data: Dataset) -> tuple[str, ...]:
    """Return the parameters of ``forward`` that are in the data. Raises BadInput if a required one is missing."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        raise BadInput(
            "forward() must name its inputs: *args and **kwargs cannot be matched with the arrays of the data"
        )
    names = tuple(
        parameter.name
        for parameter in parameters
        if parameter.name in data.inputs or parameter.default is inspect.Parameter.empty
    )
    return exactly(names, data)


def exactly(names: tuple[str, ...], data: Dataset) -> tuple[str, ...]:
    """Return ``names`` if the data holds exactly these inputs. Raises BadInput naming a missing or unknown input."""
    data.select(names)
    extra = sorted(set(data.inputs) - set(names))
    if extra:
        raise BadInput(
            f"the data holds {extra[0]!r}, which is not a parameter of forward(); it takes {', '.join(names)}"
        )
    return names


def output_names(reference: str, result: Any, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``wanted``, or the keys of a returned mapping, or ``output``, ``output_1`` and so on. Raises BadInput."""
    count = len(flatten(result))
    if wanted:
        return named(reference, count, wanted)
    if isinstance(result, Mapping):
        return tuple(str(name) for name in result)
    return tuple("output" if position == 0 else f"output_{position}" for position in range(count))


def named(reference: str, count: int, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return ``wanted`` if it holds ``count`` distinct names. Raises BadInput."""
    if len(wanted) != count or len(set(wanted)) != count:
        raise BadInput(f"{reference} has {count} output(s), --outputs names {len(wanted)}: {', '.join(wanted)}")
    return wanted


def export_module(
    module: torch.nn.Module, example: Mapping[str, Array], outputs: Sequence[str], axes: Sequence[Axis], path: Path
) -> Exported:
    """Write the graph to ``path`` with the dynamo exporter or, if that fails, with the tracing exporter.

    ``example`` has two rows, because exporters often treat a batch of one as a constant. Raises ExportFailed with the
    message of the dynamo exporter, which is more precise.
    """
    import onnx

    inputs = tuple(example)
    with captured() as messages:
        try:
            model, exporter = dynamo(module, example, symbols(axes, inputs)), "dynamo"
        except ExportFailed as error:
            try:
                model, exporter = traced(module, example, len(outputs), symbols(axes, inputs)), "torchscript"
            except Exception:  # noqa: BLE001 - the message of the dynamo exporter is raised instead
                raise error from None
    rename(model, inputs, outputs)
    import onnx_ir

    onnx.save(onnx_ir.to_proto(model), path)
    return Exported(exporter, tuple(messages))


def dynamo(module: Any, example: Mapping[str, Array], dynamic: Mapping[str, Mapping[int, str]]) -> onnx_ir.Model:
    """Export with the dynamo exporter; free axes keep their names. Raises ExportFailed."""
    import torch

    try:
        program = torch.onnx.export(
            module,
            (),
            kwargs={name: torch.from_numpy(array.copy()) for name, array in example.items()},
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes={name: dict(sizes) for name, sizes in dynamic.items()},
            verbose=False,
        )
    except Exception as error:
        raise ExportFailed(f"the model cannot be exported: {cause(error)}") from error
    if program is None:
        raise ExportFailed("the model cannot be exported: the exporter returned nothing")
    model: onnx_ir.Model = program.model
    return model


def traced(
    module: Any, example: Mapping[str, Array], count: int, dynamic: Mapping[str, Mapping[int, str]]
) -> onnx_ir.Model:
    """Export with the tracing exporter, the only one for TorchScript. Exceptions of the exporter are not wrapped."""
    import io

    import onnx
    import onnx_ir
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in example.items()}
    scripted = isinstance(module, torch.jit.ScriptModule)
    # Temporary names that cannot collide with names of the user. ``rename`` replaces them.
    results = [f"slipway_output_{position}" for position in range(count)]
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        tuple(tensors.values()) if scripted else (),
        buffer,  # type: ignore[arg-type]  # the tracing exporter takes a stream; the stub omits it
        kwargs=None if scripted else tensors,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(tensors),
        output_names=results,
        dynamic_axes={
            **{name: dict(sizes) for name, sizes in dynamic.items()},
            **{name: {0: BATCH} for name in results},
        },
    )
    return onnx_ir.from_proto(onnx.load_model_from_string(buffer.getvalue()))


def rename(model: onnx_ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Rename the inputs and outputs of the graph, and every inner value that already has one of these names.

    The dynamo exporter may give an output the name of an inner value, which writes a graph that does not load. Raises
    ExportFailed if the number of inputs or outputs differs, or if a name occurs twice.
    """
    graph = model.graph
    if len(graph.inputs) != len(inputs):
        kept = ", ".join(str(value.name) for value in graph.inputs)
        raise ExportFailed(
            f"the exporter kept the inputs {kept or 'none'} of {', '.join(inputs)}: the model does not use the "
            "others; remove them from forward() and from the data"
        )
    if len(graph.outputs) != len(outputs):
        raise ExportFailed(f"the exported graph has {len(graph.outputs)} outputs, the model returns {len(outputs)}")
    wanted = [*inputs, *outputs]
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise ExportFailed(f"{twice[0]!r} would name two of the inputs and outputs: choose names with --outputs")
    interface = [*graph.inputs, *graph.outputs]
    if len({id(value) for value in interface}) != len(interface):
        raise ExportFailed("the exported graph returns a value twice, or returns an input: return a copy")
    inner = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    taken = {value.name for value in inner} | set(wanted)
    for value in (*inner, *graph.inputs):
        if value.name in wanted:
            value.name = _free(f"{value.name}_inner", taken)
    for value, name in zip(interface, wanted, strict=True):
        value.name = name


def kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"


def brief(error: BaseException) -> str:
    """Describe an error in one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def cause(error: BaseException) -> str:
    """Return the message of the innermost cause of an exporter error, without its advice and colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip("- ").strip() for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}" if lines else type(error).__name__


def _free(name: str, taken: set[Any]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
