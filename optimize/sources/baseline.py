"""The baseline: the exported float32 ONNX graph, normalized for the later passes and proven equal to the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.backends import BackendOptions, loader
from server.errors import SlipwayError
from server.tensors import Array

from ..errors import ExportFailed, NotProven
from ..evaluation.dataset import ROWS_FIRST
from . import external_data, onnx_shapes
from .axes import Axis, Probe
from .conversion import Conversion

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 13
"""The first opset with quantization per channel, which static int8 needs."""

RAISED_OPSET = 17

NEWEST_OPSET, NEWEST_IR = 23, 10
"""The newest versions that every supported backend reads. The libraries write newer files by default."""

LARGEST_BYTES = 2**31 - 1
"""The size limit of one protobuf message."""

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that ONNX Runtime includes. Any other domain needs native code outside the file."""

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Tolerances of the proof, because float32 kernels sum in different orders. The largest output value scales
``ABSOLUTE``."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The largest absolute difference between source and baseline at each batch size, over all lengths.

    ``lengths``: the compared sizes of each free axis. ``cosine``: the smallest cosine similarity between a row of a
    float output and the row of the source. ``exporter`` and ``messages`` name the exporter and its output.
    """

    differences: tuple[tuple[int, float], ...]
    messages: tuple[str, ...] = ()
    lengths: tuple[tuple[str, tuple[int, ...]], ...] = ()
    cosine: float = 1.0
    exporter: str = ""

    @property
    def worst(self) -> float:
        return max(difference for _, difference in self.differences)


def write(conversion: Conversion, path: Path) -> Proof:
    """Write the baseline of ``conversion`` to ``path`` and prove it equal to the source.

    Raises ExportFailed if the graph is unusable, NotProven if its outputs differ.
    """
    import onnx

    model = onnx.load(conversion.graph, load_external_data=False)
    beside = external_data.files(model, conversion.graph)
    model = clean(model, large=bool(beside))
    _declare(model, conversion)
    rows_first = conversion.layout == ROWS_FIRST
    check_signature(model, conversion.inputs, conversion.outputs, conversion.axes, rows_first=rows_first)
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in beside:
        external_data.place(file, conversion.graph.resolve().parent, path.resolve().parent)
    onnx.save(model, path)
    return prove(conversion, path)


def _declare(model: onnx.ModelProto, conversion: Conversion) -> None:
    """Write the verified shapes into the signature of ``model``. Absent inputs and outputs are left to the check."""
    values = (*model.graph.input, *model.graph.output)
    if {value.name for value in values} != {*conversion.inputs, *conversion.outputs}:
        return
    answers = dict(zip(conversion.outputs, zip(*conversion.answers, strict=True), strict=True))
    onnx_shapes.complete_outputs(model, [answers[value.name][0] for value in model.graph.output])
    free = {(axis.input, axis.position): axis.name for axis in conversion.axes}
    onnx_shapes.declare(model, conversion.probes[0].inputs, free, conversion.layout, answers)


def clean(model: onnx.ModelProto, *, large: bool = False) -> onnx.ModelProto:
    """Drop recorded shapes of inner values, lower versions that the backends do not read, and check the graph.

    The exporters' optimizers transpose weights and keep the old shapes, which makes the quantizers fail. Every tool
    infers the shapes it needs. A graph of an old opset is raised to ``OLDEST_OPSET``, because the quantizers need it.
    ``large``: the weights stay in external data, and the graph is not checked. Raises ExportFailed naming the unusable
    node or version.
    """
    import onnx

    del model.graph.value_info[:]
    local = {function.domain for function in model.functions}
    for nodes in (model.graph, *model.functions):
        _check_operators(nodes, local)
    onnx_shapes.normalize(model)
    if large:
        model.ir_version = min(model.ir_version, NEWEST_IR)
        return model
    if opset(model) > NEWEST_OPSET:
        model = _lowered(model)
    elif 0 < opset(model) < OLDEST_OPSET:
        model = _raised(model)
    # The IR version says which fields may appear. The exported files use none of the newer fields.
    model.ir_version = min(model.ir_version, NEWEST_IR)
    if model.ByteSize() > LARGEST_BYTES:
        raise ExportFailed("the graph with its weights is larger than 2 GiB, which is not supported yet")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportFailed(f"the exported graph is not valid: {str(error).splitlines()[0]}") from error
    return model


def opset(model: onnx.ModelProto) -> int:
    """Return the opset version of the ONNX domain, or 0 if the graph does not import it."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert the graph to ``NEWEST_OPSET``. The proof checks the result later."""
    import onnx
    from onnx import version_converter

    version = opset(model)
    try:
        lowered: onnx.ModelProto = version_converter.convert_version(model, NEWEST_OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ExportFailed(
            f"the graph uses opset {version}, the newest that every backend reads is {NEWEST_OPSET}, and it cannot be "
            f"converted ({reason}): export it again with opset_version={NEWEST_OPSET} or less"
        ) from error
    del lowered.graph.value_info[:]
    return lowered


def _raised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert the graph to ``RAISED_OPSET``, or return it as it is if the converter fails: float32 runs either way."""
    import onnx
    from onnx import version_converter

    try:
        raised: onnx.ModelProto = version_converter.convert_version(model, RAISED_OPSET)
        onnx.checker.check_model(raised)
    except (RuntimeError, ValueError, onnx.checker.ValidationError):
        return model
    onnx_shapes.normalize(raised)
    return raised


def _check_operators(graph: Any, local: set[str]) -> None:
    """Raises ExportFailed at the first node with an unknown operator domain, including nodes of subgraphs."""
    for node in graph.node:
        if node.domain not in DOMAINS | local:
            raise ExportFailed(
                f"node {node.name or node.output[0]!r} is {node.domain}::{node.op_type}, an operator that needs native "
                "code outside the file: replace it, or export the model without it"
            )
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _check_operators(inner, local)


def check_signature(
    model: onnx.ModelProto,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Sequence[Axis] = (),
    *,
    rows_first: bool = True,
) -> None:
    """Raises ExportFailed if an input or an output is missing, or if an axis that must be free is fixed.

    ``rows_first``: axis 0 of every input and output must be the free batch axis.
    """
    free = {(axis.input, axis.position): axis.name for axis in axes}
    for kind, values, names in (("input", model.graph.input, inputs), ("output", model.graph.output, outputs)):
        present = {value.name: value for value in values}
        for name in names:
            if name not in present:
                raise ExportFailed(f"the exporter dropped the {kind} {name!r}: the graph has {', '.join(present)}")
            shape = present[name].type.tensor_type.shape
            if rows_first and (not shape.dim or shape.dim[0].HasField("dim_value")):
                size = shape.dim[0].dim_value if shape.dim else "nothing"
                raise ExportFailed(
                    f"the batch axis of the {kind} {name!r} is fixed to {size}: something in the model turns the "
                    "number of rows into a constant, for example int(x.shape[0]) or a tensor of a fixed size"
                )
            for position, dim in enumerate(shape.dim):
                if (name, position) in free and dim.HasField("dim_value"):
                    raise ExportFailed(
                        f"axis {position} of the {kind} {name!r}, {free[name, position]!r}, is fixed to "
                        f"{dim.dim_value} in the graph: something in the model turns its size into a constant"
                    )


def prove(conversion: Conversion, path: Path) -> Proof:
    """Compare the outputs of the source with the outputs of the graph at ``path`` for every probe.

    The tolerance is ``RELATIVE`` of the value plus ``ABSOLUTE`` of the largest output value. Raises NotProven naming
    the output and the probe, also if the graph cannot run a probe.
    """
    session = loader("onnxruntime")(path, BackendOptions(threads=1))
    by_size: dict[int, float] = {}
    lengths: dict[str, set[int]] = {}
    cosine = 1.0
    try:
        names = [spec.name for spec in session.spec.inputs]
        order = [[spec.name for spec in session.spec.outputs].index(name) for name in conversion.outputs]
        for probe, expected in zip(conversion.probes, conversion.answers, strict=True):
            try:
                answers = session.run([probe.inputs[name] for name in names])
            except SlipwayError as error:
                raise NotProven(
                    f"the exported graph is specialised, it does not run at {probe}: {error.__cause__ or error}"
                ) from error
            got = [answers[position] for position in order]
            difference = compare(conversion.outputs, expected, got, probe)
            by_size[probe.batch_size] = max(by_size.get(probe.batch_size, 0.0), difference)
            cosine = min([cosine, *(_least_cosine(w, h) for w, h in zip(expected, got, strict=True))])
            for name, size in probe.lengths.items():
                lengths.setdefault(name, set()).add(size)
    finally:
        session.close()
    sizes = tuple((name, tuple(sorted(found))) for name, found in sorted(lengths.items()))
    return Proof(
        tuple(sorted(by_size.items())), conversion.exported.messages, sizes, cosine, conversion.exported.exporter
    )


def compare(names: Sequence[str], expected: Sequence[Array], got: Sequence[Array], probe: Probe) -> float:
    """Return the largest absolute difference. Raises NotProven if an output differs in shape or in values."""
    worst = 0.0
    for name, want, have in zip(names, expected, got, strict=True):
        if want.shape != have.shape:
            raise NotProven(f"output {name!r} has shape {list(have.shape)} instead of {list(want.shape)} at {probe}")
        if want.dtype.kind == "O":
            if (want != have).any():
                raise NotProven(f"output {name!r} of the exported graph has other texts than the source at {probe}")
            continue
        want64, have64 = want.astype(np.float64), have.astype(np.float64)
        finite = np.abs(want64[np.isfinite(want64)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        difference = float(np.nanmax(np.abs(want64 - have64), initial=0.0))
        if not np.allclose(have64, want64, rtol=RELATIVE, atol=ABSOLUTE * scale, equal_nan=True):
            total = len(want) if want.ndim else 1
            close = np.isclose(have64, want64, RELATIVE, ABSOLUTE * scale, equal_nan=True)
            rows = int(np.sum(~close.reshape(total, -1).all(1)))
            raise NotProven(
                f"output {name!r} of the exported graph differs from the source by up to {difference:.3g} at {probe}, "
                f"in {rows} of {total} rows"
            )
        worst = max(worst, difference)
    return worst


def _least_cosine(want: Array, have: Array) -> float:
    if want.dtype.kind != "f" or want.ndim < 2 or not len(want):
        return 1.0
    left, right = (array.reshape(len(array), -1).astype(np.float64) for array in (want, have))
    norms: Array = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    products: Array = np.sum(left * right, axis=1)
    return float(np.min(np.divide(products, norms, out=np.ones_like(norms), where=norms > 0)))
