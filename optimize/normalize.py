"""The float32 ONNX reference: exported from the source, cleaned of what trips later tools, proven equal to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.backends import BackendOptions, loader
from server.errors import SlipwayError
from server.tensors import Array

from . import quiet
from .dataset import Dataset
from .errors import ExportFailed, NotProven
from .sources import ReferenceModel
from .sources.torch_factory import call, flatten

if TYPE_CHECKING:
    import onnx
    import onnx_ir

OPSET = 20
"""What the exporter is asked for; its own default, written here so that an upgrade of it does not move the file."""

NEWEST_OPSET, NEWEST_IR = 23, 10
"""The newest that every backend in reach reads. The libraries would write newer files by default."""

BATCH = "batch"

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Float32 kernels sum in different orders. ``ABSOLUTE`` is scaled by the largest value of the output."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The largest absolute difference between source and reference at each batch size that was compared."""

    differences: tuple[tuple[int, float], ...]
    said: tuple[str, ...] = ()

    @property
    def worst(self) -> float:
        return max(difference for _, difference in self.differences)


def normalize(source: ReferenceModel, data: Dataset, path: Path, batch_sizes: Sequence[int]) -> Proof:
    """Write the reference of ``source`` to ``path`` and prove it equal to the source.

    Raises ExportFailed when the graph cannot be written, NotProven when it computes something else.
    """
    import onnx

    model, said = export(source, data)
    clean(model)
    check_signature(model, source.inputs, source.outputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return Proof(prove(source, data, path, batch_sizes).differences, tuple(said))


def export(source: ReferenceModel, data: Dataset) -> tuple[onnx.ModelProto, list[str]]:
    """The graph that the dynamo exporter writes for a batch of two with a named batch axis, and what it said meanwhile.

    Two rows because a batch of one is often taken for a constant. Names are given afterwards: the exporter assigns
    output names without looking whether an inner value has them already, and writes a graph that does not load.
    """
    import torch

    example = {name: torch.from_numpy(array) for name, array in data.select(source.inputs).batch(2).items()}
    with quiet.captured() as said:
        try:
            program = torch.onnx.export(
                source.module,
                (),
                kwargs=example,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes={name: {0: BATCH} for name in source.inputs},
                verbose=False,
            )
        except Exception as error:
            raise ExportFailed(f"{source.reference} cannot be exported: {_cause(error)}") from error
    if program is None:
        raise ExportFailed(f"{source.reference} cannot be exported: the exporter returned nothing")
    rename(program.model, source.inputs, source.outputs)
    return program.model_proto, said


def rename(model: onnx_ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give the graph's inputs and outputs these names, and another to every inner value that has one of them.

    Raises ExportFailed when the graph has another number of inputs or outputs, or when a name is wanted twice.
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


def clean(model: onnx.ModelProto) -> None:
    """Drop recorded shapes of inner values, and refuse what is too new for the backends.

    The exporter's optimizer transposes weights and leaves their old shapes behind, on which the quantizers stumble;
    every tool infers the shapes it needs. Raises ExportFailed.
    """
    import onnx

    del model.graph.value_info[:]
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset > NEWEST_OPSET:
        raise ExportFailed(f"the graph uses opset {opset}, the newest that every backend reads is {NEWEST_OPSET}")
    # The format's own version says which fields may appear, not which were used: our files use none of the newer ones.
    model.ir_version = min(model.ir_version, NEWEST_IR)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportFailed(f"the exported graph is not valid: {str(error).splitlines()[0]}") from error


def check_signature(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises ExportFailed when an input is gone, an output is gone, or a batch axis is not free."""
    for kind, values, names in (("input", model.graph.input, inputs), ("output", model.graph.output, outputs)):
        present = {value.name: value for value in values}
        for name in names:
            if name not in present:
                raise ExportFailed(f"the exporter dropped the {kind} {name!r}: the graph has {', '.join(present)}")
            shape = present[name].type.tensor_type.shape
            if not shape.dim or not shape.dim[0].dim_param:
                size = shape.dim[0].dim_value if shape.dim else "nothing"
                raise ExportFailed(
                    f"the batch axis of the {kind} {name!r} is fixed to {size}: something in forward() turns the "
                    "number of rows into a constant, for example int(x.shape[0]) or a tensor of a fixed size"
                )


def prove(source: ReferenceModel, data: Dataset, path: Path, batch_sizes: Sequence[int]) -> Proof:
    """Compare source and graph on real rows at every one of ``batch_sizes``, each from another row on.

    Equal means within ``RELATIVE`` of the value plus ``ABSOLUTE`` of the output's largest. Raises NotProven, naming the
    output and the batch size, also when the graph cannot run at one of them.
    """
    rows = data.select(source.inputs)
    session = loader("onnxruntime")(path, BackendOptions(threads=1))
    try:
        names = [spec.name for spec in session.spec.inputs]
        differences = []
        for batch_size in sorted(set(batch_sizes)):
            batch = rows.batch(batch_size, offset=batch_size)
            expected = flatten(call(source.module, batch))
            try:
                got = session.run([batch[name] for name in names])
            except SlipwayError as error:
                raise NotProven(
                    f"the exported graph is specialised, it does not run at batch size {batch_size}: {error}"
                ) from error
            differences.append((batch_size, _compare(source.outputs, expected, got, batch_size)))
    finally:
        session.close()
    return Proof(tuple(differences))


def _compare(names: Sequence[str], expected: Sequence[Array], got: Sequence[Array], batch_size: int) -> float:
    worst = 0.0
    for name, want, have in zip(names, expected, got, strict=True):
        if want.shape != have.shape:
            raise NotProven(
                f"output {name!r} has shape {list(have.shape)} instead of {list(want.shape)} at batch size {batch_size}"
            )
        want64, have64 = want.astype(np.float64), have.astype(np.float64)
        finite = np.abs(want64[np.isfinite(want64)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        difference = float(np.nanmax(np.abs(want64 - have64), initial=0.0))
        if not np.allclose(have64, want64, rtol=RELATIVE, atol=ABSOLUTE * scale, equal_nan=True):
            raise NotProven(
                f"output {name!r} of the exported graph differs from the source by up to {difference:.3g} "
                f"at batch size {batch_size}"
            )
        worst = max(worst, difference)
    return worst


def _free(name: str, taken: set[Any]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _cause(error: BaseException) -> str:
    """The innermost reason of an exporter's error, without its advice and colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip("- ").strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}" if lines else type(error).__name__
