"""A torch module: run on arrays, its names, and its way to ONNX. What every source that ends in torch shares."""

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
from ..sandbox import captured_output as quiet
from . import Exported, ReferenceModel, Request
from .axes import BATCH, Axis, symbols

if TYPE_CHECKING:
    import onnx_ir
    import torch

OPSET = 20
"""What the exporters are asked for: the newest that both write; written here so that an upgrade does not move it."""


def reference_model(
    request: Request, module: torch.nn.Module, inputs: tuple[str, ...], data: Dataset, digests: Mapping[str, str]
) -> ReferenceModel:
    """Try ``module`` on two rows and describe it. Raises BadInput when it does not run on them."""
    module.eval()
    result = call(module, data.select(inputs).batch(2))
    outputs = output_names(request.reference, result, request.outputs)

    def run(batch: Mapping[str, Array]) -> list[Array]:
        return flatten(call(module, batch))

    def export(example: Mapping[str, Array], path: Path) -> Exported:
        return export_module(module, example, outputs, request.axes, path)

    return ReferenceModel(request.reference, inputs, outputs, run, export, digests, request.axes)


def call(module: torch.nn.Module, inputs: Mapping[str, Array]) -> Any:
    """Run the module on arrays, without gradients; returns what it returns. Raises BadInput when it fails."""
    import torch

    try:
        with torch.inference_mode():
            return module(**{name: torch.from_numpy(array.copy()) for name, array in inputs.items()})
    except Exception as error:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
        raise BadInput(f"the model fails on rows of the data ({shapes}): {brief(error)}") from error


def flatten(result: Any) -> list[Array]:
    """What a module returned, as arrays in its own order: a tensor, a sequence of them, or a mapping's values.

    Raises BadInput for anything else.
    """
    import torch

    values = list(result.values()) if isinstance(result, Mapping) else result
    tensors = list(values) if isinstance(values, list | tuple) else [values]
    if not tensors or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise BadInput(f"forward() must return a tensor, a tuple of tensors or a dict of them, not {kind(result)}")
    return [np.asarray(tensor.detach().cpu().numpy()) for tensor in tensors]


def input_names(module: torch.nn.Module, data: Dataset) -> tuple[str, ...]:
    """The parameters of ``forward`` that the data has; those without a default have to be there. Raises BadInput."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        raise BadInput("forward() must name its inputs: *args and **kwargs cannot be matched with the data")
    names = tuple(
        parameter.name
        for parameter in parameters
        if parameter.name in data.inputs or parameter.default is inspect.Parameter.empty
    )
    return exactly(names, data)


def exactly(names: tuple[str, ...], data: Dataset) -> tuple[str, ...]:
    """``names``, if they are what the data holds. Raises BadInput naming what is missing or too much."""
    data.select(names)
    extra = sorted(set(data.inputs) - set(names))
    if extra:
        raise BadInput(f"the data holds {extra[0]!r}, which is no parameter of forward(); it takes {', '.join(names)}")
    return names


def output_names(reference: str, result: Any, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """``wanted``, or the keys of a returned mapping, or ``output``, ``output_1`` and so on. Raises BadInput."""
    count = len(flatten(result))
    if wanted:
        return named(reference, count, wanted)
    if isinstance(result, Mapping):
        return tuple(str(name) for name in result)
    return tuple("output" if position == 0 else f"output_{position}" for position in range(count))


def named(reference: str, count: int, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """``wanted``, if it names ``count`` outputs. Raises BadInput."""
    if len(wanted) != count or len(set(wanted)) != count:
        raise BadInput(f"{reference} has {count} output(s), --outputs names {len(wanted)}: {', '.join(wanted)}")
    return wanted


def export_module(
    module: torch.nn.Module, example: Mapping[str, Array], outputs: Sequence[str], axes: Sequence[Axis], path: Path
) -> Exported:
    """Write the graph to ``path`` by the dynamo exporter or, where that fails, by the older one that traces.

    ``example`` has two rows, because a batch of one is often taken for a constant. Raises ExportFailed with the reason
    of the first, which knows better what is wrong.
    """
    import onnx

    inputs = tuple(example)
    with quiet.captured() as said:
        try:
            model, exporter = dynamo(module, example, symbols(axes, inputs)), "dynamo"
        except ExportFailed as error:
            try:
                model, exporter = traced(module, example, len(outputs), symbols(axes, inputs)), "torchscript"
            except Exception:  # noqa: BLE001 - the reason of the first exporter is the one to tell
                raise error from None
    rename(model, inputs, outputs)
    import onnx_ir

    onnx.save(onnx_ir.to_proto(model), path)
    return Exported(exporter, tuple(said))


def dynamo(module: Any, example: Mapping[str, Array], dynamic: Mapping[str, Mapping[int, str]]) -> onnx_ir.Model:
    """The graph that the dynamo exporter writes, with named free axes. Raises ExportFailed."""
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
    """The graph that the older exporter writes; the only one for TorchScript. Raises what it raises."""
    import io

    import onnx
    import onnx_ir
    import torch

    tensors = {name: torch.from_numpy(array.copy()) for name, array in example.items()}
    scripted = isinstance(module, torch.jit.ScriptModule)
    # Names of the graph that cannot collide with those of the user; they get theirs afterwards.
    results = [f"slipway_output_{position}" for position in range(count)]
    buffer = io.BytesIO()
    torch.onnx.export(
        module,
        tuple(tensors.values()) if scripted else (),
        buffer,  # type: ignore[arg-type]  # the older exporter takes a stream, which the stub does not say
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
    """Give the graph's inputs and outputs these names, and another to every inner value that has one of them.

    The dynamo exporter assigns output names without looking whether an inner value has them already, and writes a graph
    that does not load. Raises ExportFailed when the graph has another number of inputs or outputs, or when a name is
    wanted twice.
    """
    graph = model.graph
    if len(graph.inputs) != len(inputs):
        kept = ", ".join(str(value.name) for value in graph.inputs)
        raise ExportFailed(
            f"the exporter kept the inputs {kept or 'none'} of {', '.join(inputs)}: the model does not use the others; "
            "take them out of forward() and of the data"
        )
    if len(graph.outputs) != len(outputs):
        raise ExportFailed(f"the exported graph has {len(graph.outputs)} outputs, the model returns {len(outputs)}")
    wanted = [*inputs, *outputs]
    twice = sorted({name for name in wanted if wanted.count(name) > 1})
    if twice:
        raise ExportFailed(f"{twice[0]!r} would name two of the inputs and outputs: choose names with --outputs")
    faces = [*graph.inputs, *graph.outputs]
    if len({id(value) for value in faces}) != len(faces):
        raise ExportFailed("the exported graph returns one value twice, or an input as it is: return a copy of it")
    inner = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    taken = {value.name for value in inner} | set(wanted)
    for value in (*inner, *graph.inputs):
        if value.name in wanted:
            value.name = _free(f"{value.name}_inner", taken)
    for value, name in zip(faces, wanted, strict=True):
        value.name = name


def kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"


def brief(error: BaseException) -> str:
    """An error in one line: its type and the first line of what it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def cause(error: BaseException) -> str:
    """The innermost reason of an exporter's error, without its advice and colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip("- ").strip() for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}" if lines else type(error).__name__


def _free(name: str, taken: set[Any]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
