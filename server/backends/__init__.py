"""The backends: what can run a model. One file each, one row in the table, one contract suite for all.

A backend is a function ``load(path, options) -> Session``. Its module, and with it the heavy dependency, is imported
only when a model asks for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..artifact import VariableAxis
from ..errors import BrokenArtifact
from ..tensors import Array, ModelSpec


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """``threads``: intra-op threads that one ``run`` may use. ``options``: what a pipeline's step says beside that.
    ``device``: cpu, cuda or tensorrt, and no other one. ``optimized``: the file holds the graph as the backend itself
    has optimized it for this processor, as the manifest says; it need not be optimized again."""

    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    optimized: bool = False


class Session(Protocol):
    """A loaded model. ``run`` may be called from several threads at once."""

    @property
    def spec(self) -> ModelSpec: ...

    def run(self, batch: Sequence[Array]) -> list[Array]:
        """Arrays in the order of ``spec.inputs`` to arrays in the order of ``spec.outputs``.

        Raises UnprocessableInput when the model refuses the values, OutOfMemory, or ModelFailed for all else.
        """
        ...

    def close(self) -> None:
        """Give the memory back. No run may follow."""
        ...


class StepSession(Session, Protocol):
    """A session that is a step of a pipeline, and knows more of itself than its tensors say."""

    @property
    def padding(self) -> VariableAxis | None:
        """The axis of varying length that it takes padded, and how."""
        ...

    @property
    def sample(self) -> list[Array]:
        """One ordinary row, to warm up with; nothing when it takes what the step before it gives."""
        ...


Loader = Callable[[Path, BackendOptions], Session]

BACKENDS: dict[str, str] = {
    "onnxruntime": "server.backends.onnxruntime:load",
    "openvino": "server.backends.openvino:load",
    "fake": "server.backends.fake:load",
    "tokenizer": "server.backends.tokenizer:load",
    "pooling": "server.backends.pooling:load",
    "image": "server.backends.image:load",
    "labels": "server.backends.labels:load",
}


def loader(name: str) -> Loader:
    """The backend's load function. Raises BrokenArtifact for a name that is not in the table, or cannot be imported."""
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
