"""The passes: files in, files out, one record of what was done. One file each, one row in the table."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PassFailed
from ..evaluation.dataset import Dataset
from ..hardware import Hardware

if TYPE_CHECKING:
    from ..sandbox.parent import SandboxLimits


@dataclass(frozen=True, slots=True)
class PassJob:
    """What a pass gets: the graph, a directory of its own to write into, and the row of its candidate.

    ``keep_float`` are layers to leave alone, each known by the tensor that it makes: names of nodes change from one
    library to the next, names of tensors do not. ``limits`` are for the pass that starts a process of its own.
    """

    reference: Path
    workdir: Path
    options: Mapping[str, str | int | bool]
    calibration: Dataset
    hardware: Hardware
    seed: int
    keep_float: tuple[str, ...] = ()
    limits: SandboxLimits | None = None


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What a pass did: the file it made, the options that took effect, and what its libraries had to say.

    ``float_graph`` is the file that it is the lower-precision form of, node for node; the sensitivity of single layers
    is read off the two. None where layers cannot be left out one by one. ``base`` is the float32 graph of a network
    that was trained again, from which this comes: its answers are its own, so that noise is measured against it and
    not against the reference; the metric alone compares with that. ``files`` are those that it read besides what it was
    given, such as training data, with their SHA-256.
    """

    path: Path
    applied: Mapping[str, str | int | bool]
    said: tuple[str, ...] = ()
    float_graph: Path | None = None
    base: Path | None = None
    files: Mapping[str, str] = field(default_factory=dict)


Apply = Callable[[PassJob], PassRecord]

PASSES: dict[str, str] = {
    "dynamic_int8_from_float32": "optimize.passes.dynamic_int8_from_float32:apply",
    "fused_from_float32": "optimize.passes.fused_from_float32:apply",
    "half_from_float32": "optimize.passes.half_from_float32:apply",
    "leveled_from_float32": "optimize.passes.leveled_from_float32:apply",
    "nbits_from_float32": "optimize.passes.nbits_from_float32:apply",
    "openvino_from_onnx": "optimize.passes.openvino_from_onnx:apply",
    "pruned_from_torch": "optimize.passes.pruned_from_torch:apply",
    "static_qdq_from_float32": "optimize.passes.static_qdq_from_float32:apply",
}

TAKES: dict[str, frozenset[str]] = {
    "dynamic_int8_from_float32": frozenset({"per_channel"}),
    "half_from_float32": frozenset({"to"}),
    "leveled_from_float32": frozenset({"level"}),
    "nbits_from_float32": frozenset({"bits", "block"}),
    "openvino_from_onnx": frozenset({"precision"}),
    "pruned_from_torch": frozenset(
        {"prune", "share", "train", "train_sha256", "factory", "weights", "outputs", "axes"}
    ),
    "static_qdq_from_float32": frozenset({"calibrate", "activations", "per_channel"}),
}
"""The options that a pass looks at. What two candidates ask of it alike is done once for both."""

OWN_PROCESS = frozenset({"pruned_from_torch"})
"""Passes that run somebody else's code, in a confined process that they start themselves."""

BACKENDS: dict[str, str] = {".onnx": "onnxruntime", ".xml": "openvino"}
"""The backend that runs what a pass has made, by the end of the file's name."""


def backend_of(path: Path) -> str:
    """The server's name of the backend for this file."""
    return BACKENDS[path.suffix]


def resolve(name: str) -> Apply:
    """The function of a pass, whose libraries are imported now and not earlier."""
    module, _, attribute = PASSES[name].partition(":")
    apply: Apply = getattr(importlib.import_module(module), attribute)
    return apply


def failed(error: Exception, who: str = "the quantizer") -> PassFailed:
    """What a library raised, in one line; the libraries write paragraphs."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return PassFailed(f"{who} failed with {type(error).__name__}: {lines[0]}")


def contains(path: Path, operators: frozenset[str]) -> bool:
    """Whether the graph in this file has a node of one of these types."""
    import onnx

    return any(node.op_type in operators for node in onnx.load(path, load_external_data=False).graph.node)


def nodes_that_make(path: Path, tensors: Collection[str]) -> list[str]:
    """The names of the nodes of this graph that make one of ``tensors``.

    Raises PassFailed for a node without a name: the quantizers leave layers out by it.
    """
    import onnx

    if not tensors:
        return []
    names = []
    for node in onnx.load(path, load_external_data=False).graph.node:
        if set(node.output) & set(tensors):
            if not node.name:
                raise PassFailed(f"the node that makes {node.output[0]!r} has no name and cannot be left out")
            names.append(node.name)
    return names
