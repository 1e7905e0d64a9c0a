"""Pass: float16 or bfloat16 instead of float32, with islands of float32 where values would overflow.

For accelerators, whose compilers use the types in the graph. Its twin shows the true answers on any processor.
Inputs and outputs of the graph keep their types. The scales of quantize pairs are cast like every other constant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PassFailed
from ..sandbox import captured_output
from . import PassJob, PassRecord, failed, twin
from .ranges import Range, observe

if TYPE_CHECKING:
    import onnx_ir

PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})
PAIRS_OPSET = 21
"""The opset that graphs with quantize pairs are raised to: from 19 on, their scales may be in half precision."""

BFLOAT16_OPSET = 22
"""The first opset in which convolutions and poolings take bfloat16."""

LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38}
SMALLEST = {"float16": 6e-8, "bfloat16": 1e-38}
"""The largest and the smallest positive number of the type."""

SMALLEST_NORMAL = {"float16": 2.0**-14, "bfloat16": 2.0**-126}
"""Numbers below this lose bits. A scale that does loses them in every value that it scales."""

SCALE_HEADROOM = 4.0
"""A pass that puts FP8 in the place of int8 divides the scales by 448 / 127."""

HEADROOM = 4.0
"""Factor by which other rows may exceed the observed values."""

FIXED = frozenset(
    {"Resize", "Upsample", "Range", "ConstantOfShape", "EyeLike", "CumSum", "DynamicQuantizeLinear"}
    | {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "NonZero"}
)
"""Operators whose float inputs must be float32, or whose type is an attribute: always islands."""

NORMALISATIONS = frozenset(
    {"LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}
)
"""Operators whose second and third output are statistics, which stay in float32 whatever the first one is."""

NO_BFLOAT16 = frozenset(
    {"ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "LRN"}
    | {"LSTM", "GRU", "RNN", "Pad", "DepthToSpace", "LeakyRelu", "PRelu", "HardSwish", "Clip", "LogSoftmax", "Log"}
    | {"Reciprocal", "Floor", "Ceil", "Round", "ReduceMax", "ReduceL1", "ReduceL2", "ArgMax", "TopK", "Greater"}
    | {"Equal", "Einsum", "QuantizeLinear", "DequantizeLinear"}
)
"""Operators without a bfloat16 kernel in ONNX Runtime's CUDA provider: islands in bfloat16. Seen with 1.31.1."""

SQUARES = frozenset(
    {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "RMSNormalization"}
    | {"ReduceL2", "ReduceSumSquare"}
)
"""Operators that sum squares of their input, which is not visible as a tensor."""


def apply(job: PassJob) -> PassRecord:
    """Cast the graph to ``to`` (``float16`` or ``bfloat16``).

    A node is an island when a value that it takes or makes comes within ``HEADROOM`` of overflow on the calibration
    rows, when a constant of it would overflow or vanish, or when its operator asks for float32. Raises PassFailed for
    graphs with branches or loops, and when nothing would be cast.
    """
    import onnx_ir

    to = str(job.options["to"])
    target = job.workdir / "model.onnx"
    with captured_output.captured() as said:
        try:
            ranges = observe(job.reference, job.calibration)
            model = onnx_ir.load(job.reference)
            raise_opset(model, to)
            cast, islands = convert(model, to, ranges, job.keep_float)
            onnx_ir.save(model, target)
            judged = twin.write(target, job.workdir / "twin.onnx")
        except PassFailed:
            raise
        except Exception as error:
            raise failed(error, "the cast") from error
    applied: dict[str, str | int | bool] = {"to": to, "cast_nodes": cast, "float32_nodes": len(islands)}
    if islands:
        applied["float32_because"] = "; ".join(islands[:8]) + ("; ..." if len(islands) > 8 else "")
    return PassRecord(target, applied, tuple(said), float_graph=job.reference, twin=judged)


def raise_opset(model: onnx_ir.Model, to: str) -> None:
    """Raise the opset of ``model`` in place to one whose operators take ``to``. Other domains stay as they are.

    Raises PassFailed when the graph cannot be converted.
    """
    from onnxscript import version_converter

    wanted = BFLOAT16_OPSET if to == "bfloat16" else 0
    if any(node.op_type in PAIRS for node in model.graph):
        wanted = max(wanted, PAIRS_OPSET)
    now = model.opset_imports.get("", 0)
    if now >= wanted:
        return
    version_converter.convert_version(model, wanted, fallback=True)
    if model.opset_imports.get("", 0) < wanted:
        raise PassFailed(f"the graph has opset {now} and could not be raised to {wanted}, which {to} needs")


def convert(
    model: onnx_ir.Model, to: str, ranges: Mapping[str, Range], keep_float: Collection[str] = ()
) -> tuple[int, list[str]]:
    """Cast ``model`` in place. Returns how many nodes were cast, and why each island stays. Raises PassFailed."""
    if any(True for node in model.graph for _ in _subgraphs(node)):
        raise PassFailed("graphs with branches or loops are not cast")
    floats = _floats(model, ranges)
    reasons = {
        node: reason
        for node in model.graph
        if _touches(node, floats) and (reason := _island(node, to, floats, ranges, keep_float))
    }
    cast = [node for node in model.graph if _touches(node, floats) and node not in reasons]
    if not cast:
        raise PassFailed("nothing to cast: every node has to stay in float32")
    _Caster(model, to, floats, set(cast)).run()
    return len(cast), [f"{node.op_type} {node.name or node.outputs[0].name}: {why}" for node, why in reasons.items()]


class _Caster:
    """Rewrites one graph: constants in both types where both are used, casts between islands and the rest."""

    def __init__(
        self, model: onnx_ir.Model, to: str, floats: Mapping[onnx_ir.Value, float], cast: set[onnx_ir.Node]
    ) -> None:
        import onnx_ir

        self._ir = onnx_ir
        self._graph = model.graph
        self._floats = floats
        self._low = cast
        self._type = onnx_ir.DataType.FLOAT16 if to == "float16" else onnx_ir.DataType.BFLOAT16
        self._twins: dict[onnx_ir.Value, onnx_ir.Value] = {}

    def run(self) -> None:
        for node in list(self._graph):
            for position, value in enumerate(node.inputs):
                if value is None or value not in self._floats:
                    continue
                if (node in self._low) != (value.producer() in self._low):
                    node.replace_input_with(position, self._twin(value))
        self._restore_outputs()
        for node in self._low:
            self._retype(node)
        self._drop_unused_constants()

    def _twin(self, value: onnx_ir.Value) -> onnx_ir.Value:
        """The same value in the other type, made once."""
        if value not in self._twins:
            constant = value.const_value
            if constant is not None and value.producer() is None:
                self._twins[value] = self._constant(value, constant.numpy())
            else:
                lowered = value.producer() not in self._low
                self._twins[value] = self._cast(value, self._type if lowered else self._ir.DataType.FLOAT)
        return self._twins[value]

    def _constant(self, value: onnx_ir.Value, array: object) -> onnx_ir.Value:
        name = f"{value.name}_{self._type.name.lower()}"
        tensor = self._ir.Tensor(np.asarray(array).astype(self._type.numpy()), dtype=self._type, name=name)
        twin = self._ir.Value(name=name, shape=tensor.shape, type=self._ir.TensorType(self._type), const_value=tensor)
        self._graph.register_initializer(twin)
        return twin

    def _cast(self, value: onnx_ir.Value, to: onnx_ir.DataType) -> onnx_ir.Value:
        node = self._ir.Node("", "Cast", [value], [self._ir.AttrInt64("to", int(to))], name=f"{value.name}_cast")
        made = node.outputs[0]
        made.name, made.shape, made.type = f"{value.name}_{to.name.lower()}", value.shape, self._ir.TensorType(to)
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            self._graph.insert_after(producer, node)
        return made

    def _restore_outputs(self) -> None:
        """Cast the graph outputs that are computed in the lower type back to float32, under their old names."""
        for position, value in enumerate(list(self._graph.outputs)):
            if value in self._floats and value.producer() in self._low:
                name = value.name
                value.name = f"{name}_{self._type.name.lower()}"
                twin = self._twin(value)
                twin.name = name
                self._graph.outputs[position] = twin

    def _retype(self, node: onnx_ir.Node) -> None:
        for value in node.outputs:
            if value in self._floats:
                # The type of an output that nothing reads is the operator's affair: the mean of a fused normalisation
                # is float32 beside a result in half precision.
                read = bool(value.uses()) or value in self._graph.outputs
                value.type = self._ir.TensorType(self._type) if read else None
        if node.op_type == "Cast" and node.outputs[0] in self._floats:
            node.attributes["to"] = self._ir.AttrInt64("to", int(self._type))
        if node.op_type == "Constant":
            array = node.attributes["value"].as_tensor().numpy()
            tensor = self._ir.Tensor(array.astype(self._type.numpy()), dtype=self._type)
            node.attributes["value"] = self._ir.AttrTensor("value", tensor)

    def _drop_unused_constants(self) -> None:
        for name, value in list(self._graph.initializers.items()):
            if not value.uses() and value not in self._graph.outputs:
                del self._graph.initializers[name]


def _floats(model: onnx_ir.Model, ranges: Mapping[str, Range]) -> dict[onnx_ir.Value, float]:
    """Every float32 value of the graph with its largest observed magnitude."""
    import onnx_ir

    found: dict[onnx_ir.Value, float] = {}
    for value in model.graph.inputs:
        if value.dtype == onnx_ir.DataType.FLOAT:
            found[value] = 0.0
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == onnx_ir.DataType.FLOAT:
            found[value] = float(np.abs(value.const_value.numpy()).max(initial=0.0))
    for node in model.graph:
        for value in node.outputs:
            if value in _statistics(node):
                continue
            seen = ranges.get(str(value.name))
            if seen is not None and seen.is_float32:
                found[value] = seen.largest
    return found


def _statistics(node: onnx_ir.Node) -> Collection[onnx_ir.Value]:
    return tuple(node.outputs[1:3]) if node.op_type in NORMALISATIONS else ()


def _island(
    node: onnx_ir.Node,
    to: str,
    floats: Mapping[onnx_ir.Value, float],
    ranges: Mapping[str, Range],
    keep_float: Collection[str],
) -> str | None:
    """Why this node stays in float32, or None."""
    if any(value.name in keep_float for value in node.outputs):
        return "kept by repair"
    if node.op_type in FIXED:
        return "its operator asks for float32"
    if any(value.uses() or value.is_graph_output() for value in _statistics(node)):
        return "its statistics are used, which are float32"
    if to == "bfloat16" and node.op_type in NO_BFLOAT16:
        return "ONNX Runtime has no bfloat16 kernel for it"
    if node.op_type == "Constant" and "value" not in node.attributes:
        return "its constant has no type of its own"
    unseen = [str(value.name) for value in node.outputs if value.name and str(value.name) not in ranges]
    if unseen:
        return f"{unseen[0]} was not observed"
    limit = LARGEST[to] / HEADROOM
    for value in (*node.inputs, *node.outputs):
        if value is None or value not in floats:
            continue
        largest = floats[value]
        if largest > (LARGEST[to] if value.const_value is not None else limit):
            return f"{value.name} reaches {largest:.3g}"
        if node.op_type in PAIRS and value is node.inputs[1] and _least(value) < SCALE_HEADROOM * SMALLEST_NORMAL[to]:
            return f"its scale {value.name} is too small"
        if node.op_type in SQUARES and largest**2 > limit:
            return f"its squares reach {largest**2:.3g}"
        if _vanishes(value, to):
            return f"the constant {value.name} would become zero"
    return None


def _vanishes(value: onnx_ir.Value, to: str) -> bool:
    """Whether a scalar constant (an epsilon) would become zero; single tiny weights in a large tensor do not count."""
    constant = value.const_value
    if constant is None or constant.size != 1:
        return False
    magnitude = float(np.abs(constant.numpy()).reshape(-1)[0])
    return 0 < magnitude < SMALLEST[to]


def _least(scale: onnx_ir.Value) -> float:
    """The smallest positive value of a constant scale; infinite for one that is computed."""
    constant = scale.const_value
    magnitudes = np.abs(constant.numpy().reshape(-1)) if constant is not None else np.empty(0)
    return float(magnitudes[magnitudes > 0].min(initial=np.inf))


def _touches(node: onnx_ir.Node, floats: Mapping[onnx_ir.Value, float]) -> bool:
    return any(value in floats for value in (*node.inputs, *node.outputs))


def _subgraphs(node: onnx_ir.Node) -> Iterator[object]:
    import onnx_ir

    for attribute in node.attributes.values():
        if attribute.type in (onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS):
            yield attribute
