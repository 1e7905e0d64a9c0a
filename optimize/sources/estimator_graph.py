"""The ONNX interface of an estimator: inputs and outputs by the user's names, around the graph of a converter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import ExportFailed, NotProven
from .axes import BATCH, Probe
from .baseline import compare
from .estimator_inputs import COLUMNS, NAMED_MATRIX, EstimatorInputs

OPSET = 18
"""The opset of graphs that consist of operators for classical models only."""

PREFIX = "estimator__"
"""Prefix of every name that a converter chose, so that the user's names are free."""


@dataclass(frozen=True, slots=True)
class Interface:
    """``rows``: arrays by input. ``answers``: the estimator's outputs for them, by ``outputs``."""

    inputs: EstimatorInputs
    outputs: tuple[str, ...]
    rows: Mapping[str, Array]
    answers: Sequence[Array]

    @property
    def count(self) -> int:
        return len(next(iter(self.rows.values())))

    def attach(self, model: Any) -> Any:
        """Give ``model`` the inputs and outputs of the interface. Raises ExportFailed if an output has no match."""
        import onnx
        from onnx.compose import add_prefix

        inner = add_prefix(model, PREFIX)
        graph = inner.graph
        if not any(entry.domain == "" for entry in inner.opset_import):
            inner.opset_import.append(onnx.helper.make_opsetid("", OPSET))
        declared = {value.name: value for value in graph.input}
        nodes, inputs = _wired(self.inputs, declared)
        del graph.input[:]
        graph.input.extend(inputs)
        for node in reversed(nodes):
            graph.node.insert(0, node)
        found = _run(inner, [value.name for value in graph.output], self.rows)
        kept = []
        for name, answer in zip(self.outputs, self.answers, strict=True):
            kept.append(_matched(graph, name, answer, found))
        del graph.output[:]
        graph.output.extend(kept)
        return inner

    def difference(self, model: Any, probe: Probe) -> float:
        """Return the largest difference from the estimator's answers; infinite beyond the tolerance of the proof."""
        found = _run(model, list(self.outputs), self.rows)
        try:
            return compare(self.outputs, self.answers, [found[name] for name in self.outputs], probe)
        except NotProven:
            return float("inf")


def _wired(inputs: EstimatorInputs, declared: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return nodes that lead the user's inputs to the ``declared`` inputs of the converter, and the graph's inputs."""
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    values = []
    for name in inputs.names:
        array = inputs.arrays[name]
        elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        values.append(helper.make_tensor_value_info(name, elem_type, [BATCH, *array.shape[1:]]))
    if inputs.form == NAMED_MATRIX and len(declared) > 1:
        ((name,), columns) = inputs.names, list(declared)
        nodes.append(helper.make_node("Split", [name], columns, axis=1, num_outputs=len(columns)))
        return nodes, values
    targets = [f"{PREFIX}{name}" for name in inputs.names] if inputs.form == COLUMNS else list(declared)
    for name, target in zip(inputs.names, targets, strict=True):
        if target not in declared:
            continue
        array, wanted = inputs.arrays[name], declared[target].type.tensor_type
        steps: list[tuple[str, list[str], dict[str, Any]]] = []
        if array.ndim == 1 and len(wanted.shape.dim) == 2:
            axis = numpy_helper.from_array(np.array([1]), f"{target}_axis")
            nodes.append(helper.make_node("Constant", [], [axis.name], value=axis))
            steps.append(("Unsqueeze", [axis.name], {}))
        if helper.np_dtype_to_tensor_dtype(array.dtype) != wanted.elem_type:
            steps.append(("Cast", [], {"to": wanted.elem_type}))
        nodes += _chain(name, target, steps or [("Identity", [], {})])
    return nodes, values


def _chain(source: str, target: str, steps: Sequence[tuple[str, list[str], dict[str, Any]]]) -> list[Any]:
    from onnx import helper

    nodes = []
    for at, (operator, more, attributes) in enumerate(steps):
        result = target if at == len(steps) - 1 else f"{target}_{at}"
        nodes.append(helper.make_node(operator, [source, *more], [result], name=f"{result}_{operator}", **attributes))
        source = result
    return nodes


def _run(model: Any, outputs: Sequence[str], rows: Mapping[str, Array]) -> dict[str, Any]:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    answers = session.run(list(outputs), {name: array for name, array in rows.items() if name in names})
    return dict(zip(outputs, answers, strict=True))


@dataclass(frozen=True, slots=True)
class Way:
    """One way to an output: ``array`` is the result for the rows, and ``build`` adds its nodes under a name."""

    array: Array
    build: Callable[[Any, str], None]


def _matched(graph: Any, name: str, answer: Array, found: Mapping[str, Any]) -> Any:
    """Add the output ``name``, computed from the converter's output that is closest to ``answer``.

    Converters choose the order, the number of axes, the sign and the types of their outputs. Raises ExportFailed.
    """
    from onnx import helper

    ways = [way for source, value in found.items() for way in _ways(source, value, answer)]
    if not ways:
        shapes = ", ".join(f"{key.removeprefix(PREFIX)} {_shape(value)}" for key, value in found.items())
        raise ExportFailed(f"no converted output ({shapes}) has the shape {list(answer.shape)} of {name!r}")
    min(ways, key=lambda way: _distance(way.array, answer)).build(graph, name)
    elem_type = helper.np_dtype_to_tensor_dtype(answer.dtype)
    return helper.make_tensor_value_info(name, elem_type, [BATCH, *answer.shape[1:]])


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, np.ndarray) else type(value).__name__


def _distance(adapted: Array, answer: Array) -> float:
    gap = np.abs(adapted.astype(np.float64) - answer.astype(np.float64))
    return float(np.nanmean(gap)) if gap.size else 0.0


def _ways(source: str, value: Any, answer: Array) -> list[Way]:
    """Return the ways in which the converter's output ``source`` can get the shape of ``answer``."""
    if isinstance(value, list):
        return _ways_from_list(source, value, answer)
    if not isinstance(value, np.ndarray) or value.dtype.kind in "OU":
        return []
    found: list[Way] = []
    if value.size == answer.size:
        flat = value.reshape(answer.shape)
        found.append(Way(flat, partial(_reshape, source=source, value=value, answer=answer, last="")))
        if answer.dtype.kind == value.dtype.kind == "f":
            found.append(Way(-flat, partial(_reshape, source=source, value=value, answer=answer, last="Neg")))
            # One converter leaves the logarithm of counts.
            with np.errstate(over="ignore"):
                counts = np.exp(flat)
            found.append(Way(counts, partial(_reshape, source=source, value=value, answer=answer, last="Exp")))
    if answer.ndim == 2 and answer.shape[1] == 2 and value.size == len(answer):
        for sign in (1, -1):
            column = sign * value.reshape(-1, 1)
            two = np.concatenate([-column, column], axis=1)
            found.append(Way(two, partial(_two_columns, source=source, value=value, answer=answer, sign=sign)))
    if value.ndim == 3 and answer.ndim == 2 and value.shape == (answer.shape[1], len(answer), 2):
        found.append(Way(value[:, :, 1].T, partial(_second_columns, source=source)))
    return found


def _ways_from_list(source: str, values: list[Any], answer: Array) -> list[Way]:
    """A sequence of tensors, one per output of the estimator: joined to one column each, or one of them."""
    arrays = [np.asarray(value) for value in values]
    found: list[Way] = []
    if all(array.ndim == 2 and array.shape[1] == 2 for array in arrays) and answer.shape[1:] == (len(arrays),):
        joined = np.stack([array[:, 1] for array in arrays], axis=1)
        found.append(Way(joined, partial(_join, source=source, count=len(arrays))))
    picked = [(at, array) for at, array in enumerate(arrays) if array.shape == answer.shape]
    return found + [Way(array, partial(_pick, source=source, at=at)) for at, array in picked]


def _constant(graph: Any, name: str, values: Any) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def _cast(value: Array, answer: Array) -> list[tuple[str, list[str], dict[str, Any]]]:
    from onnx import helper

    if value.dtype == answer.dtype:
        return []
    return [("Cast", [], {"to": helper.np_dtype_to_tensor_dtype(answer.dtype)})]


def _reshape(graph: Any, name: str, *, source: str, value: Array, answer: Array, last: str) -> None:
    """Add the type and the axes of ``answer`` to ``source``, and the operator ``last`` if there is one."""
    nodes = _cast(value, answer)
    if value.shape != answer.shape:
        shape = _constant(graph, f"{PREFIX}{name}_shape", np.array([-1, *answer.shape[1:]]))
        nodes.append(("Reshape", [shape], {}))
    if last:
        nodes.append((last, [], {}))
    graph.node.extend(_chain(source, name, nodes or [("Identity", [], {})]))


def _two_columns(graph: Any, name: str, *, source: str, value: Array, answer: Array, sign: int) -> None:
    """Add ``[-s, s]`` for a score ``s`` of two classes."""
    shape = _constant(graph, f"{PREFIX}{name}_shape", np.array([-1, 1]))
    signs = _constant(graph, f"{PREFIX}{name}_signs", np.array([[-sign, sign]], answer.dtype))
    nodes = [*_cast(value, answer), ("Reshape", [shape], {}), ("MatMul", [signs], {})]
    graph.node.extend(_chain(source, name, nodes))


def _second_columns(graph: Any, name: str, *, source: str) -> None:
    """Add the second column of each table of ``[outputs, rows, 2]``, as ``[rows, outputs]``."""
    index = _constant(graph, f"{PREFIX}{name}_index", np.array(1))
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Gather", [index], {"axis": 2}),
        ("Transpose", [], {"perm": [1, 0]}),
    ]
    graph.node.extend(_chain(source, name, steps))


def _join(graph: Any, name: str, *, source: str, count: int) -> None:
    """Add nodes that join the second columns of a sequence of ``count`` tensors."""
    from onnx import helper

    one = _constant(graph, f"{PREFIX}{name}_one", np.array([1]))
    columns = []
    for at in range(count):
        place = _constant(graph, f"{PREFIX}{name}_at_{at}", np.array(at))
        table, column = f"{PREFIX}{name}_table_{at}", f"{PREFIX}{name}_column_{at}"
        graph.node.append(helper.make_node("SequenceAt", [source, place], [table]))
        graph.node.append(helper.make_node("Gather", [table, one], [column], axis=1))
        columns.append(column)
    graph.node.append(helper.make_node("Concat", columns, [name], axis=1))


def _pick(graph: Any, name: str, *, source: str, at: int) -> None:
    """Add a node that takes tensor ``at`` of a sequence."""
    from onnx import helper

    place = _constant(graph, f"{PREFIX}{name}_at", np.array(at))
    graph.node.append(helper.make_node("SequenceAt", [source, place], [name]))
