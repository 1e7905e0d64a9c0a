"""Source: an ``.onnx`` file, or a folder with one ``.onnx`` file and its external data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.artifact import digest
from server.backends import BackendOptions, loader
from server.errors import SlipwayError
from server.tensors import Array

from ..errors import BadInput, ExportFailed
from ..evaluation.dataset import Dataset
from . import Exported, SourceModel, SourceSpec, batch_axis, external_data
from .axes import Axis

if TYPE_CHECKING:
    import onnx

Run = Callable[[Mapping[str, Array]], list[Array]]


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Read and check the file. ONNX Runtime computes the source's outputs; if it rejects the file, the reference
    implementation of the operators computes them.

    The free axes are the axes that the file names, unless the user gave some. Raises BadInput.
    """
    path = find(request.path)
    model, kept_in = read(path)
    inputs, outputs = signature(model, data)
    if request.outputs and request.outputs != outputs:
        raise BadInput(f"--outputs: the ONNX file already names its outputs {', '.join(outputs)}; omit the option")
    check_types(model, data.select(inputs))
    size = batch_axis.fixed(model)
    run = _runner(path, model, outputs)
    digests = {file.name: digest(file) for file in (path, *kept_in)}
    return SourceModel(
        request.reference,
        inputs,
        outputs,
        partial(_in_batches, run, size) if size is not None else run,
        partial(_export, model, size, outputs),
        digests,
        request.axes or named_axes(model, inputs),
    )


def find(path: Path) -> Path:
    """Return ``path``, or the only ``.onnx`` file of the folder, or its ``model.onnx``. Raises BadInput."""
    if path.is_file():
        return path
    found = sorted(path.glob("*.onnx"))
    if len(found) > 1 and path / "model.onnx" in found:
        return path / "model.onnx"
    if len(found) != 1:
        raise BadInput(f"{path} holds {len(found)} .onnx files: give the path of one")
    return found[0]


def read(path: Path) -> tuple[onnx.ModelProto, tuple[Path, ...]]:
    """Return the checked model with its weights, and its external data files. Raises BadInput."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise BadInput(f"{path} is not an ONNX file, or is damaged: {error}") from error
    kept_in = external_data.files(model, path)
    if kept_in:
        onnx.load_external_data_for_model(model, str(path.resolve().parent))
    # Recorded shapes of inner values are hints and may be stale. Every tool can infer them again.
    del model.graph.value_info[:]
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise BadInput(f"{path} is not a valid ONNX model: {' '.join(str(error).split())}") from error
    return model, kept_in


def signature(model: onnx.ModelProto, data: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs, which must be in the data, and of the outputs. Raises BadInput."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(value.name for value in model.graph.input if value.name not in weights)
    data.select(inputs)
    extra = sorted(set(data.inputs) - set(inputs))
    if extra:
        raise BadInput(f"the data holds {extra[0]!r}, which is no input of the model; it takes {', '.join(inputs)}")
    return inputs, tuple(value.name for value in model.graph.output)


def check_types(model: onnx.ModelProto, data: Dataset) -> None:
    """Raises BadInput if dtype or shape of the rows differ from the inputs of the file."""
    from onnx import helper

    for value in model.graph.input:
        if value.name not in data.inputs:
            continue
        tensor, rows = value.type.tensor_type, data.inputs[value.name]
        wanted = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if wanted != rows.dtype:
            raise BadInput(
                f"{value.name!r} is {rows.dtype} in the data and {wanted} in the model: use .astype('{wanted}')"
            )
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        fits = len(sizes) == rows.ndim and all(
            size in (None, have) for size, have in zip(sizes[1:], rows.shape[1:], strict=True)
        )
        if tensor.HasField("shape") and not fits:
            shape = ", ".join("any" if size is None else str(size) for size in sizes)
            raise BadInput(f"{value.name!r} is {list(rows.shape)} in the data and [{shape}] in the model")


def named_axes(model: onnx.ModelProto, inputs: tuple[str, ...]) -> tuple[Axis, ...]:
    """Return every axis besides the batch that has no fixed size in the file."""
    axes = []
    for value in model.graph.input:
        for position, dim in enumerate(value.type.tensor_type.shape.dim):
            if position and value.name in inputs and not dim.HasField("dim_value"):
                axes.append(Axis(value.name, position, dim.dim_param or f"{value.name}_{position}"))
    return tuple(axes)


def _runner(path: Path, model: onnx.ModelProto, outputs: tuple[str, ...]) -> Run:
    try:
        session = loader("onnxruntime")(path, BackendOptions(threads=1))
    except SlipwayError as error:
        return _evaluated(model, outputs, error)
    names = [spec.name for spec in session.spec.inputs]

    def run(batch: Mapping[str, Array]) -> list[Array]:
        try:
            return session.run([batch[name] for name in names])
        except SlipwayError as error:
            shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in batch.items())
            raise BadInput(f"the model fails on rows of the data ({shapes}): {error.__cause__ or error}") from error

    return run


def _evaluated(model: onnx.ModelProto, outputs: tuple[str, ...], refused: SlipwayError) -> Run:
    """Compute the outputs with the slow reference implementation, which supports every opset."""
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator: Any = ReferenceEvaluator(model)
    except Exception as error:
        raise BadInput(f"{refused}; the reference implementation fails too: {error}") from error

    def run(batch: Mapping[str, Array]) -> list[Array]:
        try:
            answers: list[Array] = evaluator.run(list(outputs), dict(batch))
        except Exception as error:
            raise BadInput(f"{refused}; the reference implementation fails too: {error}") from error
        return answers

    return run


def _in_batches(run: Run, size: int, batch: Mapping[str, Array]) -> list[Array]:
    """Run a model that takes ``size`` rows on any number of rows. The last batch is filled with the first rows."""
    rows = len(next(iter(batch.values())))
    parts = []
    for start in range(0, rows, size):
        indices = np.arange(start, start + size) % rows
        part = run({name: np.ascontiguousarray(array[indices]) for name, array in batch.items()})
        if any(array.shape[:1] != (size,) for array in part):
            raise BadInput(f"the model takes {size} rows and returns another number of rows: axis 0 is not the batch")
        parts.append(part)
    return [np.concatenate(pieces)[:rows] for pieces in zip(*parts, strict=True)]


def _export(
    model: onnx.ModelProto, size: int | None, outputs: tuple[str, ...], _: Mapping[str, Array], path: Path
) -> Exported:
    import onnx

    messages: list[str] = []
    if size is not None:
        reshapes = batch_axis.free(model, size)
        messages.append(f"the file had a fixed batch size of {size}: its batch axis was freed")
        messages += [
            f"the target of Reshape {name!r} held the batch size: it copies the size of its input now"
            for name in reshapes
        ]
    if not outputs:
        raise ExportFailed("the graph has no outputs")
    try:
        onnx.save(model, path)
    except ValueError as error:
        raise ExportFailed("the graph with its weights is larger than 2 GiB, which is not supported yet") from error
    return Exported("as it is", tuple(messages))
