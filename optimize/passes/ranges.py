"""Observed ranges: the type and the largest magnitude of every tensor of a graph, on real rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from server.tensors import Array

from ..evaluation.dataset import Dataset

if TYPE_CHECKING:
    import onnx

BATCH = 8
"""Rows of a run that holds every inner tensor in memory."""

MOST_ROWS = 128


@dataclass(frozen=True, slots=True)
class Range:
    """``largest``: the largest magnitude seen in a float tensor, infinite where a value was not finite."""

    is_float32: bool
    largest: float


def observe(path: Path, data: Dataset) -> dict[str, Range]:
    """Run the file over some rows of ``data`` and return the range of every tensor that a node makes."""
    import onnx

    model = onnx.load(path)
    names = made(model)
    seen: dict[str, Range] = {}
    for values in inner_values(model, names, _batches(data)):
        for name, value in values.items():
            before = seen.get(name)
            largest = max(_largest(value), before.largest if before else 0.0)
            seen[name] = Range(value.dtype == np.float32, largest)
    return seen


def made(model: onnx.ModelProto) -> list[str]:
    """The tensors that the nodes of a graph make, each once, in order."""
    return list(dict.fromkeys(name for node in model.graph.node for name in node.output if name))


def inner_values(
    model: onnx.ModelProto, names: Sequence[str], batches: Iterator[Mapping[str, Array]]
) -> Iterator[dict[str, Array]]:
    """The values of these tensors for each batch, by name.

    Graph optimizations are off, because they would remove some of these tensors.
    """
    import onnx
    import onnxruntime as ort

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.log_severity_level = 4
    session = ort.InferenceSession(copy.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    for batch in batches:
        yield dict(zip(names, session.run(list(names), {name: batch[name] for name in inputs}), strict=True))


def _batches(data: Dataset) -> Iterator[Mapping[str, Array]]:
    size = min(BATCH, data.rows)
    for offset in range(0, min(data.rows, MOST_ROWS), size):
        yield data.batch(size, offset)


def _largest(value: Array) -> float:
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.size == 0:
        return 0.0
    if not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value).max())
