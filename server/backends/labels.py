"""Class scores to labels: the names of the best classes, with their scores.

The names come from a file (``.txt``: one a line, ``.json``: a list) or from the option ``labels``. Further options:
``top`` (1: how many), ``softmax`` (false: the model's scores; true: probabilities).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..artifact import VariableAxis
from ..errors import BrokenArtifact, ModelFailed, UnprocessableInput
from ..tensors import BY_NAME, Array, ModelSpec, TensorSpec
from . import BackendOptions
from .options import Options


class LabelsSession:
    """Float32 [any, classes] to BYTES [any, top] and float32 [any, top], the best first; of equals the first class."""

    __slots__ = ("_names", "_open", "_softmax", "_top", "padding", "sample", "spec")

    def __init__(self, names: Sequence[str], top: int, softmax: bool) -> None:
        self.spec = ModelSpec(
            (TensorSpec("scores", BY_NAME["FP32"], (-1, len(names))),),
            (TensorSpec("label", BY_NAME["BYTES"], (-1, top)), TensorSpec("score", BY_NAME["FP32"], (-1, top))),
        )
        self.padding: VariableAxis | None = None
        self.sample: list[Array] = []
        self._names = np.array(names, object)
        self._top = top
        self._softmax = softmax
        self._open = True

    def run(self, batch: Sequence[Array]) -> list[Array]:
        if not self._open:
            raise ModelFailed("this model has been unloaded")
        (spec,) = self.spec.inputs
        if len(batch) != 1 or batch[0].dtype != np.float32 or not spec.accepts(batch[0].shape):
            raise UnprocessableInput(f"labels take float32 scores of {len(self._names)} classes")
        scores = batch[0]
        if self._softmax:
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = shares / shares.sum(axis=1, keepdims=True)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._top]
        return [self._names[best], np.take_along_axis(scores, best, axis=1)]

    def close(self) -> None:
        self._open = False


def load(path: Path, options: BackendOptions) -> LabelsSession:
    """Create the step. Raises BrokenArtifact if the names cannot be read, or for a wrong option."""
    asked = Options(options.options, "labels")
    names = asked.texts("labels") or _read(path)
    top = asked.whole("top", 1)
    softmax = asked.flag("softmax", False)
    asked.finish()
    if top > len(names):
        raise BrokenArtifact(f"the option 'top' of 'labels' is {top}, and there are {len(names)} labels")
    return LabelsSession(names, top, softmax)


def _read(path: Path) -> list[str]:
    if path.suffix not in (".json", ".txt"):
        raise BrokenArtifact(f"labels are a .json or a .txt file, or the option 'labels'; got {path.name}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise BrokenArtifact(f"cannot read the labels {path.name}: {reason}") from error
    if path.suffix == ".json":
        try:
            names = json.loads(text)
        except ValueError as error:
            raise BrokenArtifact(f"{path.name} is not JSON: {error}") from error
    else:
        names = text.splitlines()
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise BrokenArtifact(f"{path.name} must hold labels: one a line, or a JSON list of texts")
    return names
