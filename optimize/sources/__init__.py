"""The table of source kinds. Each row names the module that loads that kind of trained model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.tensors import Array

from ..evaluation.dataset import ROWS_FIRST, Dataset, Layout
from .axes import Axis


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """The user's description of the source. ``outputs`` and ``axes`` are empty if the user did not give them."""

    reference: str
    weights: Path | None = None
    outputs: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    allow_pickle: bool = False
    fixed: tuple[str, ...] = ()
    """Axes that keep the size of the data: names, ``input:position``, or ``all``."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of a factory."""

    @property
    def path(self) -> Path:
        return Path(self.reference)


@dataclass(frozen=True, slots=True)
class Exported:
    """The name of the exporter that wrote the graph, and the messages that it printed."""

    exporter: str
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A loaded source. Every candidate is compared with its outputs.

    ``run`` takes arrays by input name and returns one array per output, in order. ``export`` writes the model as ONNX
    with these input and output names, given two example rows. ``classes`` are the class names, if the model has any.
    ``digests`` maps a file or a part of the source to its SHA-256; the manifest records them.
    """

    reference: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Mapping[str, Array]], list[Array]]
    export: Callable[[Mapping[str, Array], Path, Sequence[Axis]], Exported]
    digests: Mapping[str, str] = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    classes: tuple[str, ...] = ()
    axes_required: bool = False
    """Whether the user named the axes, so that an axis that cannot be free is an error."""
    messages: tuple[str, ...] = ()
    """Warnings of the loader for the user."""
    layout: Layout = ROWS_FIRST
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Number of axes by input. Empty: every input has the rank of its rows, with the rows on axis 0."""


Load = Callable[[SourceSpec, Dataset], SourceModel]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trained model and the function that loads it.

    ``load`` is ``module`` or ``module:function``. ``sandboxed``: the file can run code, or its parser does not resist
    hostile input, so a child process loads it. ``environment``: the row of ``environments.ENVIRONMENTS`` whose
    interpreter converts it.
    """

    name: str
    about: str
    load: str = ""
    sandboxed: bool = False
    environment: str = ""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("onnx", "an .onnx file, or a folder with one", "onnx_file"),
        Kind("huggingface", "a folder with config.json and *.safetensors", "huggingface"),
        Kind("torch_factory", "module:attribute that builds a torch.nn.Module, with --weights", "torch_factory"),
        Kind("torch_export", "a .pt2 file of torch.export.save", "torch_export", sandboxed=True),
        Kind("torchscript", "a .pt, .pth, .ts or .jit file of torch.jit.save", "torchscript", sandboxed=True),
        Kind(
            "pickle", "a scikit-learn, XGBoost or LightGBM model in a pickle or joblib file", "pickled", sandboxed=True
        ),
        Kind("skops", "a scikit-learn model in a .skops file", "pickled:load_skops", sandboxed=True),
        Kind("xgboost", "an XGBoost .ubj or .json file", "boosted_trees:load_xgboost", sandboxed=True),
        Kind("lightgbm", "a LightGBM .txt or .lgb file", "boosted_trees:load_lightgbm", sandboxed=True),
        Kind("tensorflow", "a TensorFlow SavedModel folder", environment="tensorflow"),
        Kind("keras", "a .keras or .h5 file", environment="tensorflow"),
        Kind("tflite", "a .tflite file", environment="tensorflow"),
        Kind("paddle", "a folder with a PaddlePaddle inference model", environment="paddle"),
    )
}


def loader(kind: Kind) -> Load:
    """Import the module of ``kind`` and return its load function. Heavy libraries are imported here, not earlier."""
    module, _, attribute = kind.load.partition(":")
    load: Load = getattr(importlib.import_module(f"{__name__}.{module}"), attribute or "load")
    return load
