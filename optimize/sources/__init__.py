"""The sources: what kinds of trained model can be read, as a table. One file each; every one gives a ReferenceModel."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server.tensors import Array

from ..evaluation.dataset import Dataset
from .axes import Axis


@dataclass(frozen=True, slots=True)
class Request:
    """What the user said about the source. ``outputs`` and ``axes`` are empty where nothing was said."""

    reference: str
    weights: Path | None = None
    outputs: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    allow_pickle: bool = False

    @property
    def path(self) -> Path:
        return Path(self.reference)


@dataclass(frozen=True, slots=True)
class Exported:
    """Which exporter wrote the graph, and what it said meanwhile."""

    exporter: str
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceModel:
    """A trained model as its authors run it: what every later form is compared with.

    ``run`` takes arrays by input name and returns one per output, in order. ``export`` writes the model as ONNX with
    these input and output names, from two example rows. ``classes`` are the names of the classes where the model
    knows them. ``digests`` are SHA-256 by what they cover, for the manifest.
    """

    reference: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Mapping[str, Array]], list[Array]]
    export: Callable[[Mapping[str, Array], Path], Exported]
    digests: Mapping[str, str] = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    classes: tuple[str, ...] = ()


Load = Callable[[Request, Dataset], ReferenceModel]


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table: a kind of trained model and what loads it.

    ``confined``: loading runs code out of the file or a parser that was not made for hostile input, so that it happens
    in a child process. ``environment``: the row of ``environments.ENVIRONMENTS`` whose own interpreter converts it.
    """

    name: str
    about: str
    load: str = ""
    confined: bool = False
    environment: str = ""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("onnx", "an .onnx file, or a folder with one", "onnx_file"),
        Kind("huggingface", "a folder with config.json and *.safetensors", "huggingface"),
        Kind("torch_factory", "module:attribute that builds a torch.nn.Module, with --weights", "torch_factory"),
        Kind("torch_export", "a .pt2 file of torch.export.save", "torch_export", confined=True),
        Kind("torchscript", "a .pt, .pth or .ts file of torch.jit.save", "torchscript", confined=True),
        Kind(
            "pickle", "a scikit-learn, XGBoost or LightGBM model in a pickle or joblib file", "pickled", confined=True
        ),
        Kind("skops", "a scikit-learn model in a .skops file", "pickled:load_skops", confined=True),
        Kind("xgboost", "an XGBoost .ubj or .json file", "boosted_trees:load_xgboost", confined=True),
        Kind("lightgbm", "a LightGBM .txt or .lgb file", "boosted_trees:load_lightgbm", confined=True),
        Kind("tensorflow", "a TensorFlow SavedModel folder", environment="tensorflow"),
        Kind("keras", "a .keras or .h5 file", environment="tensorflow"),
        Kind("paddle", "a folder with a PaddlePaddle inference model", environment="paddle"),
    )
}


def loader(kind: Kind) -> Load:
    """The function of a row, whose libraries are imported now and not earlier."""
    module, _, attribute = kind.load.partition(":")
    load: Load = getattr(importlib.import_module(f"{__name__}.{module}"), attribute or "load")
    return load
