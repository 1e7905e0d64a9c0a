"""The backends, which run models. Each backend has one file, one row in the table, and one contract suite.

A backend is a function ``load(path, options) -> Session``. Its module, with its heavy dependency, is
imported only for a model that needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..artifact import VariableAxis
from ..errors import BrokenArtifact
from ..target import CPU, ClosedShapes, DeviceTarget
from ..tensors import Array, ModelSpec


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """How a model is opened.

    ``threads``: intra-op threads of one ``run``. ``options``: further options of a pipeline's step. ``optimized``: the
    file holds a graph that the backend has optimized for this processor.

    For GPUs: ``target`` has the kind of the device and what was measured to be best there, ``ordinals`` are the GPUs,
    each of which gets a copy of the model. ``shapes``: the only shapes that run; None: any, without CUDA graphs.
    ``padding``: the axis that they pad. ``lanes``: batches that are under way on a GPU. ``memory_bytes``: most device
    memory of one copy; 0: nine tenths of what is free. ``spec``: the manifest's, for files that do not name tensors.
    """

    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    optimized: bool = False
    target: DeviceTarget = field(default_factory=DeviceTarget)
    ordinals: tuple[int, ...] = (0,)
    shapes: ClosedShapes | None = None
    padding: VariableAxis | None = None
    lanes: int = 2
    memory_bytes: int = 0
    spec: ModelSpec | None = None

    @property
    def device(self) -> str:
        """cpu, cuda, tensorrt or tensorrt_rtx."""
        return self.target.kind


class Session(Protocol):
    """A loaded model. Several threads may call ``run`` at once."""

    @property
    def spec(self) -> ModelSpec: ...

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """Run the model on arrays in the order of ``spec.inputs``; returns arrays in the order of ``spec.outputs``.

        Raises UnprocessableInput if the model refuses the values, OutOfMemory, or ModelFailed for any other failure.
        """
        ...

    def close(self) -> None:
        """Free the memory. No run may follow."""
        ...


class Tokenizing(Protocol):
    """A session that tokenizes. ``max_length``: tokens of a text; further ones are cut. ``pad_id``: the token that
    fills shorter texts."""

    @property
    def max_length(self) -> int: ...

    @property
    def pad_id(self) -> int: ...

    def tokenize(self, texts: Sequence[str]) -> list[tuple[Array, int]]:
        """Each text in the form that the session passes on as it is, and its number of tokens before it was cut."""
        ...

    def of_ids(self, ids: Array) -> Array:
        """The same form for token ids (int64), cut. Raises MalformedInput for an unknown id."""
        ...


Loader = Callable[[Path, BackendOptions], Session]

BACKENDS: dict[str, str] = {
    "onnxruntime": "server.backends.onnxruntime:load",
    "onnxruntime_cuda": "server.backends.onnxruntime_cuda:load",
    "tensorrt": "server.backends.tensorrt:load",
    "tensorrt_rtx": "server.backends.tensorrt:load",
    "torch_export": "server.backends.torch_export:load",
    "openvino": "server.backends.openvino:load",
    "fake": "server.backends.fake:load",
    "tokenizer": "server.backends.tokenizer:load",
    "pooling": "server.backends.pooling:load",
    "image": "server.backends.image:load",
    "labels": "server.backends.labels:load",
}


ONNX = ("onnxruntime", "onnxruntime_cuda")
"""The backends of ONNX files, on the CPU and on GPUs."""


def backend_for(name: str, device: str) -> str:
    """The backend that runs the files of backend ``name`` on this kind of device: ONNX files run on all."""
    if name not in ONNX:
        return name
    return "onnxruntime" if device == CPU else "onnxruntime_cuda"


def loader(name: str) -> Loader:
    """The backend's load function. Raises BrokenArtifact for an unknown backend, or if it cannot be imported."""
    try:
        module, _, attribute = BACKENDS[name].partition(":")
    except KeyError as error:
        raise BrokenArtifact(f"unknown backend {name!r}; this build has {', '.join(sorted(BACKENDS))}") from error
    try:
        load: Loader = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise BrokenArtifact(f"backend {name!r} needs the package {error.name}, which is not installed") from error
    except ImportError as error:
        raise BrokenArtifact(f"backend {name!r} cannot be loaded: {error}") from error
    return load
