"""The float32 ONNX reference: what a source exported, cleaned of what trips later tools, proven equal to the source."""

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
from .axes import Axis, Probe
from .conversion import Conversion

if TYPE_CHECKING:
    import onnx

NEWEST_OPSET, NEWEST_IR = 23, 10
"""The newest that every backend in reach reads. The libraries would write newer files by default."""

LARGEST_BYTES = 2**31 - 1
"""What fits into one protobuf message."""

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators that ONNX Runtime brings along. Any other domain is native code that the file cannot carry."""

RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Float32 kernels sum in different orders. ``ABSOLUTE`` is scaled by the largest value of the output."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The largest absolute difference between source and reference at each batch size, over all lengths.

    ``lengths``: the sizes of each free axis that were compared. ``cosine``: the least likeness of any row of a float
    output to the source's. ``exporter`` wrote the graph and ``said`` this.
    """

    differences: tuple[tuple[int, float], ...]
    said: tuple[str, ...] = ()
    lengths: tuple[tuple[str, tuple[int, ...]], ...] = ()
    cosine: float = 1.0
    exporter: str = ""

    @property
    def worst(self) -> float:
        return max(difference for _, difference in self.differences)


def normalize(conversion: Conversion, path: Path) -> Proof:
    """Write the reference of ``conversion`` to ``path`` and prove it equal to the source.

    Raises ExportFailed when the graph cannot be used, NotProven when it computes something else.
    """
    import onnx

    model = clean(onnx.load(conversion.graph))
    check_signature(model, conversion.inputs, conversion.outputs, conversion.axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return prove(conversion, path)


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop recorded shapes of inner values, bring versions down to what the backends read, and check the graph.

    The exporters' optimizers transpose weights and leave their old shapes behind, on which the quantizers stumble;
    every tool infers the shapes it needs. Raises ExportFailed naming the node or the version that cannot be used.
    """
    import onnx

    del model.graph.value_info[:]
    local = {function.domain for function in model.functions}
    for nodes in (model.graph, *model.functions):
        _check_operators(nodes, local)
    # Weights were once listed as inputs too, with values that a request may override: they are not inputs of ours.
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)
    if opset(model) > NEWEST_OPSET:
        model = _lowered(model)
    # The format's own version says which fields may appear, not which were used: our files use none of the newer ones.
    model.ir_version = min(model.ir_version, NEWEST_IR)
    if model.ByteSize() > LARGEST_BYTES:
        raise ExportFailed("the graph with its weights is larger than 2 GiB, which is not supported yet")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportFailed(f"the exported graph is not valid: {str(error).splitlines()[0]}") from error
    return model


def opset(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the graph uses; 0 where it uses none of them."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def _lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in ``NEWEST_OPSET``. Its equality is proven later, like that of any other step."""
    import onnx
    from onnx import version_converter

    version = opset(model)
    try:
        lowered: onnx.ModelProto = version_converter.convert_version(model, NEWEST_OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise ExportFailed(
            f"the graph uses opset {version}, the newest that every backend reads is {NEWEST_OPSET}, and it cannot be "
            f"brought down ({reason}): export it again with opset_version={NEWEST_OPSET} or less"
        ) from error
    del lowered.graph.value_info[:]
    return lowered


def _check_operators(graph: Any, local: set[str]) -> None:
    """Raises ExportFailed at the first node whose operator is in no known domain, also inside of subgraphs."""
    for node in graph.node:
        if node.domain not in DOMAINS | local:
            raise ExportFailed(
                f"node {node.name or node.output[0]!r} is {node.domain}::{node.op_type}, an operator that needs native "
                "code from outside: replace it, or export the model without it"
            )
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _check_operators(inner, local)


def check_signature(
    model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str], axes: Sequence[Axis] = ()
) -> None:
    """Raises ExportFailed when an input is gone, an output is gone, or an axis is fixed that has to be free."""
    free = {(axis.input, axis.position): axis.name for axis in axes}
    for kind, values, names in (("input", model.graph.input, inputs), ("output", model.graph.output, outputs)):
        present = {value.name: value for value in values}
        for name in names:
            if name not in present:
                raise ExportFailed(f"the exporter dropped the {kind} {name!r}: the graph has {', '.join(present)}")
            shape = present[name].type.tensor_type.shape
            if not shape.dim or shape.dim[0].HasField("dim_value"):
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
    """Compare what the source answered with what the graph at ``path`` answers, at every probe.

    Equal means within ``RELATIVE`` of the value plus ``ABSOLUTE`` of the output's largest. Raises NotProven, naming the
    output and the probe, also when the graph cannot run at one of them.
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
    return Proof(tuple(sorted(by_size.items())), conversion.exported.said, sizes, cosine, conversion.exported.exporter)


def compare(names: Sequence[str], expected: Sequence[Array], got: Sequence[Array], probe: Probe) -> float:
    """The largest absolute difference. Raises NotProven when an output has another shape or other values."""
    worst = 0.0
    for name, want, have in zip(names, expected, got, strict=True):
        if want.shape != have.shape:
            raise NotProven(f"output {name!r} has shape {list(have.shape)} instead of {list(want.shape)} at {probe}")
        want64, have64 = want.astype(np.float64), have.astype(np.float64)
        finite = np.abs(want64[np.isfinite(want64)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        difference = float(np.nanmax(np.abs(want64 - have64), initial=0.0))
        if not np.allclose(have64, want64, rtol=RELATIVE, atol=ABSOLUTE * scale, equal_nan=True):
            rows = int(np.sum(~np.isclose(have64, want64, RELATIVE, ABSOLUTE * scale).reshape(len(want), -1).all(1)))
            raise NotProven(
                f"output {name!r} of the exported graph differs from the source by up to {difference:.3g} at {probe}, "
                f"in {rows} of {len(want)} rows"
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
