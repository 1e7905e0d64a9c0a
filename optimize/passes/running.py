"""The running of a model file: which backend of the server runs it, on which device, in which shapes.

A file for a GPU has a note beside it. A file without one runs on the CPU, by the backend for its suffix.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.artifact import USUAL_LENGTHS, VariableAxis
from server.backends import BackendOptions, Session, loader
from server.target import CPU, ClosedShapes, DeviceTarget
from server.tensors import ModelSpec, TensorSpec

from ..errors import PassFailed
from ..evaluation.dataset import Dataset
from . import backend_of

NOTE = ".running.json"


@dataclass(frozen=True, slots=True)
class Running:
    """``backend`` and ``device``: as the server names them. ``options``: of the device, such as ``tf32``.

    ``rows``: the closed numbers of rows, ascending. ``axes``: the free axis of each input that has one, besides the
    batch, and ``length`` its size in the data; 0 where there is none. ``sm`` and ``versions``: the one compute
    capability, and the libraries in exact versions, that an engine is bound to; 0 and empty for other files.
    ``spec``: inputs and outputs, for a file that does not name them. ``refittable``: an engine that takes other
    weights.
    """

    backend: str
    device: str = CPU
    options: Mapping[str, str | int | bool] = field(default_factory=dict)
    rows: tuple[int, ...] = ()
    axes: Mapping[str, int] = field(default_factory=dict)
    length: int = 0
    sm: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    spec: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    refittable: bool = False

    @property
    def target(self) -> DeviceTarget:
        return DeviceTarget(
            self.device, sm=self.sm, versions=self.versions, options=self.options, refittable=self.refittable
        )

    def opening(self, threads: int, *, optimized: bool = False, shapes: ClosedShapes | None = None) -> BackendOptions:
        """The options that open a file as it is measured: in the length of the data, or in other ``shapes``."""
        if self.device == CPU:
            return BackendOptions(threads, optimized=optimized)
        measured = ClosedShapes(self.rows, (self.length,) if self.length else ())
        padding = VariableAxis({name: (axis, 0.0) for name, axis in self.axes.items()}, {}, measured.lengths)
        return BackendOptions(
            threads,
            target=self.target,
            shapes=shapes or measured,
            padding=padding if self.length else None,
            spec=_spec(self.spec) if self.spec else None,
        )


def as_json(spec: ModelSpec) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs for a note."""
    return {"inputs": [one.to_json() for one in spec.inputs], "outputs": [one.to_json() for one in spec.outputs]}


def _spec(body: Mapping[str, Sequence[Mapping[str, Any]]]) -> ModelSpec:
    inputs, outputs = (tuple(TensorSpec.from_json(dict(row)) for row in body[name]) for name in ("inputs", "outputs"))
    return ModelSpec(inputs, outputs)


def mark(path: Path, running: Running) -> None:
    """Write the note of ``path``."""
    path.with_name(path.name + NOTE).write_text(json.dumps(asdict(running), sort_keys=True), encoding="utf-8")


def of(path: Path) -> Running:
    """How ``path`` runs."""
    note = path.with_name(path.name + NOTE)
    if not note.is_file():
        return Running(backend_of(path))
    body = json.loads(note.read_text(encoding="utf-8"))
    return Running(**{**body, "rows": tuple(body["rows"])})


def rows(options: Mapping[str, str | int | bool]) -> tuple[int, ...]:
    """The closed numbers of rows from the option ``rows`` of a pass, as 1,8,32."""
    return tuple(sorted(int(size) for size in str(options["rows"]).split(",")))


def free_length(path: Path, data: Dataset) -> tuple[dict[str, int], int]:
    """The free axis besides the batch of every input of a graph that has one, and its size in the data; 0: none has.

    Raises PassFailed when an input has two of them, because closed shapes have one length.
    """
    import onnx

    axes: dict[str, int] = {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        free = [at for at, dim in enumerate(value.type.tensor_type.shape.dim) if at and not dim.HasField("dim_value")]
        if len(free) > 1:
            raise PassFailed(f"{value.name!r} has the free axes {free}, and a GPU's shapes have one length: --fixed")
        axes |= {value.name: free[0]} if free else {}
    sizes = {data.inputs[name].shape[axis] for name, axis in axes.items()}
    if len(sizes) > 1:
        raise PassFailed(f"the free axes have the sizes {sorted(sizes)}, and a GPU's shapes have one length: --fixed")
    return axes, max(sizes, default=0)


def closed_lengths(longest: int) -> tuple[int, ...]:
    """The closed lengths up to ``longest``, which is that of the data; none for 0: no axis is free."""
    return (*(size for size in USUAL_LENGTHS if size < longest), longest) if longest else ()


def on_gpu(path: Path) -> bool:
    return of(path).device != CPU


def open_session(path: Path, threads: int = 1, *, optimized: bool = False) -> Session:
    """Load a model file as it is measured. ``optimized``: it holds a graph that the backend has optimized.

    Raises what the backend raises.
    """
    running = of(path)
    return loader(running.backend)(path, running.opening(threads, optimized=optimized))
