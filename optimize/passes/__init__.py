"""The passes: files in, files out, one record of what was done. One file each, one row in the table."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..dataset import Dataset
from ..errors import PassFailed
from ..hardware import Hardware


@dataclass(frozen=True, slots=True)
class PassJob:
    """What a pass gets: the reference, a directory of its own to write into, and the row of its candidate."""

    reference: Path
    workdir: Path
    options: Mapping[str, str | bool]
    calibration: Dataset
    hardware: Hardware
    seed: int


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What a pass did: the file it made, the options that took effect, and what its libraries had to say."""

    path: Path
    applied: Mapping[str, str | int | bool]
    said: tuple[str, ...] = ()


Apply = Callable[[PassJob], PassRecord]

PASSES: dict[str, str] = {
    "dynamic_int8_from_float32": "optimize.passes.dynamic_int8_from_float32:apply",
    "static_qdq_from_float32": "optimize.passes.static_qdq_from_float32:apply",
}


def resolve(name: str) -> Apply:
    """The function of a pass, whose libraries are imported now and not earlier."""
    module, _, attribute = PASSES[name].partition(":")
    apply: Apply = getattr(importlib.import_module(module), attribute)
    return apply


def failed(error: Exception) -> PassFailed:
    """What a quantizer raised, in one line; its libraries write paragraphs."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return PassFailed(f"the quantizer failed with {type(error).__name__}: {lines[0]}")


def contains(path: Path, operators: frozenset[str]) -> bool:
    """Whether the graph in this file has a node of one of these types."""
    import onnx

    return any(node.op_type in operators for node in onnx.load(path, load_external_data=False).graph.node)
