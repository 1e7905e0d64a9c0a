"""Source: an ``.onnx`` file, or a folder with one ``.onnx`` file and its external data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.artifact import digest
from server.backends import BackendOptions, loader
from server.errors import SlipwayError
from server.tensors import Array

from ..errors import BadInput, ExportFailed, OptimizeError
from ..evaluation import dataset
from ..evaluation.dataset import Dataset, Layout
from ..sandbox.captured_output import captured
from . import Exported, SourceModel, SourceSpec, axes, batch_axis, external_data, onnx_shapes
from .axes import Axis, Probe
from .baseline import LARGEST_BYTES, compare

if TYPE_CHECKING:
    import onnx

Run = Callable[[Mapping[str, Array]], list[Array]]

ROWS_TRIED = (1, 2, 5)
"""Batch sizes at which a freed batch axis is compared with the original file."""


def load(request: SourceSpec, data: Dataset) -> SourceModel:
    """Read and check the file. ONNX Runtime computes the source's outputs; if it rejects the file, the reference
    implementation of the operators computes them.

    The free axes are the axes without a fixed size in the file, unless the user gave some. Raises BadInput.
    """
    path = find(request.path)
    model, kept_in = read(path)
    inputs, outputs = signature(model, data)
    if request.outputs and request.outputs != outputs:
        raise BadInput(f"--outputs: the ONNX file already names its outputs {', '.join(outputs)}; omit the option")
    onnx_shapes.complete_inputs(model, data)
    layout = onnx_shapes.layout(model)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.input}
    rows = dataset.arranged(data.select(inputs), ranks, layout)
    check_types(model, rows)
    run = _runner(path, model, outputs)
    onnx_shapes.complete_outputs(model, run(rows.batch(batch_axis.fixed(model) or 2)))
    kept_in_graph = _bytes(kept_in) <= LARGEST_BYTES
    if kept_in_graph:
        _check(model, path, kept_in)
    size = batch_axis.fixed(model)
    messages: tuple[str, ...] = ()
    if size is not None:
        freed, messages = _freed(model, size, run, rows) if kept_in_graph else (None, ())
        if freed is not None:
            model, run, size = freed, partial(_in_batches, run, size), None
    free = request.axes or axes.distinct(axes.without(named_axes(model, inputs), request.fixed), rows)
    return SourceModel(
        request.reference,
        inputs,
        outputs,
        run,
        partial(_export, model, () if kept_in_graph else kept_in, path.resolve().parent, messages),
        {file.name: digest(file) for file in (path, *kept_in)},
        free,
        axes_required=bool(request.axes),
        layout=Layout(layout.row_axes, size or layout.run_rows),
        ranks=ranks,
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
    """Return the graph without its external data, and its external data files. Raises BadInput."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise BadInput(f"{path} is not an ONNX file, or is damaged: {error}") from error
    if not model.graph.output:
        raise BadInput(f"{path} is not an ONNX model: its graph has no outputs")
    kept_in = external_data.files(model, path)
    onnx_shapes.normalize(model)
    return model, kept_in


def _check(model: onnx.ModelProto, path: Path, kept_in: Sequence[Path]) -> None:
    """Load the external data into ``model`` and check it. Raises BadInput."""
    import onnx

    try:
        if kept_in:
            onnx.load_external_data_for_model(model, str(path.resolve().parent))
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise BadInput(f"{path} is not a valid ONNX model: {' '.join(str(error).split())}") from error


def signature(model: onnx.ModelProto, data: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs, which must be in the data, and of the outputs. Raises BadInput."""
    inputs = tuple(value.name for value in model.graph.input)
    data.select(inputs)
    extra = sorted(set(data.inputs) - set(inputs))
    if extra:
        raise BadInput(f"the data holds {extra[0]!r}, which is no input of the model; it takes {', '.join(inputs)}")
    return inputs, tuple(value.name for value in model.graph.output)


def check_types(model: onnx.ModelProto, data: Dataset) -> None:
    """Raises BadInput if dtype or shape of the rows differ from the inputs of the file."""
    from onnx import helper

    for value in model.graph.input:
        tensor, rows = value.type.tensor_type, data.inputs[value.name]
        wanted = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if wanted != rows.dtype:
            raise BadInput(
                f"{value.name!r} is {rows.dtype} in the data and {wanted} in the model: use .astype('{wanted}')"
            )
        sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
        axis = data.layout.of(value.name)
        fits = len(sizes) == rows.ndim and all(
            position == axis or size in (None, have)
            for position, (size, have) in enumerate(zip(sizes, rows.shape, strict=True))
        )
        if not fits:
            shape = ", ".join("any" if size is None else str(size) for size in sizes)
            raise BadInput(f"{value.name!r} is {list(rows.shape)} in the data and [{shape}] in the model")


def named_axes(model: onnx.ModelProto, inputs: tuple[str, ...]) -> tuple[Axis, ...]:
    """Return every axis without a fixed size, besides the axis of the rows."""
    places = onnx_shapes.layout(model)
    return tuple(
        Axis(value.name, position, dim.dim_param)
        for value in model.graph.input
        if value.name in inputs
        for position, dim in enumerate(value.type.tensor_type.shape.dim)
        if position != places.of(value.name) and not dim.HasField("dim_value")
    )


def _runner(path: Path, model: onnx.ModelProto, outputs: tuple[str, ...]) -> Run:
    try:
        session = loader("onnxruntime")(path, BackendOptions(threads=1))
    except SlipwayError as error:
        return _evaluated(model, outputs, error)
    return _run_of(session)


def _run_of(session: Any) -> Run:
    names = [spec.name for spec in session.spec.inputs]

    def run(batch: Mapping[str, Array]) -> list[Array]:
        try:
            with captured():
                answers: list[Array] = session.run([batch[name] for name in names])
        except SlipwayError as error:
            shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in batch.items())
            reason = " ".join(str(error.__cause__ or error).split())
            raise BadInput(f"the model fails on rows of the data ({shapes}): {reason}") from error
        return answers

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


def _freed(
    model: onnx.ModelProto, size: int, run: Run, rows: Dataset
) -> tuple[onnx.ModelProto | None, tuple[str, ...]]:
    """Return ``model`` with a free batch axis if it then computes the same for other row counts, else None."""
    import onnx

    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    reshapes = batch_axis.free(freed, size)
    names = [value.name for value in freed.graph.output]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "freed.onnx"
            onnx.save(freed, path)
            session = loader("onnxruntime")(path, BackendOptions(threads=1))
        for count in ROWS_TRIED:
            batch = rows.batch(count)
            compare(names, _in_batches(run, size, batch), _run_of(session)(batch), Probe(count, {}, batch))
    except (OptimizeError, SlipwayError, ValueError) as error:
        reason = " ".join(str(error).split())
        return None, (f"the batch size stays {size}: with a free batch axis, {reason}",)
    messages = [f"the file had a fixed batch size of {size}: its batch axis was freed"]
    messages += [
        f"the target of Reshape {name!r} held the batch size: it copies the size of its input now" for name in reshapes
    ]
    return freed, tuple(messages)


def _bytes(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _export(
    model: onnx.ModelProto,
    beside: Sequence[Path],
    folder: Path,
    messages: tuple[str, ...],
    _: object,
    path: Path,
    _axes: object,
) -> Exported:
    """Write the graph to ``path``, and the external data files ``beside`` it in ``folder`` next to it."""
    import onnx

    for file in beside:
        external_data.place(file, folder, path.parent)
    if beside:
        external_data.flatten(model)
    try:
        onnx.save(model, path)
    except ValueError as error:
        raise ExportFailed(f"the graph cannot be written: {' '.join(str(error).split())}") from error
    return Exported("as it is", messages)
