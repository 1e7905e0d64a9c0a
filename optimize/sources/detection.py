"""Detection: maps the SOURCE argument to a row of the table of source kinds."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from ..errors import BadInput
from . import KINDS, Kind

SUFFIXES = {
    ".onnx": "onnx",
    ".pt2": "torch_export",
    ".ts": "torchscript",
    ".torchscript": "torchscript",
    ".jit": "torchscript",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".joblib": "pickle",
    ".skops": "skops",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".keras": "keras",
    ".h5": "keras",
    ".hdf5": "keras",
    ".tflite": "tflite",
}

TORCH_ARCHIVES = frozenset({".pt", ".pth", ".bin", ".ckpt"})

CAFFE = frozenset({".caffemodel", ".prototxt"})

THROUGH_ONNX = {
    "caffe": "Caffe models are not read: no converter runs with current libraries. Convert the model once "
    "with caffe2onnx in a separate environment, and give the .onnx file",
    "theano": "Theano models are not read: Theano saves pickles of compiled functions, and no converter exists. "
    "Rebuild the layers in torch, load the arrays from get_value(), and give module:attribute with --weights; or give "
    "the .onnx file if the library on top of it (Keras, Lasagne) could write one",
}


def detect(reference: str) -> Kind:
    """Return the kind of ``reference``. Folders and torch archives are detected by content, other files by suffix.

    Raises BadInput with a remedy if the source is missing, unknown or not accepted.
    """
    path = Path(reference)
    if path.is_dir():
        return KINDS[_folder(path)]
    if path.is_file():
        return KINDS[_file(path)]
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", reference):
        return KINDS["torch_factory"]
    raise BadInput(f"{reference!r} is not a file, a folder or module:attribute. Supported: {_known()}")


def _folder(path: Path) -> str:
    names = {entry.name for entry in path.iterdir()}
    suffixes = {Path(name).suffix for name in names}
    if "config.json" in names and ".safetensors" in suffixes:
        return "huggingface"
    if "saved_model.pb" in names:
        return "tensorflow"
    if ".pdiparams" in suffixes or ".pdmodel" in suffixes:
        return "paddle"
    if ".onnx" in suffixes:
        return "onnx"
    if suffixes & CAFFE:
        raise BadInput(f"{path}: {THROUGH_ONNX['caffe']}")
    if "config.json" in names and ({".bin", ".pt"} & suffixes):
        raise BadInput(
            f"{path} holds weights as pickles, which can run code when they are opened: "
            "save the model once with save_pretrained(folder, safe_serialization=True)"
        )
    raise BadInput(f"{path} holds no supported model ({', '.join(sorted(names)[:5])}). Supported: {_known()}")


def _file(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    if suffix in TORCH_ARCHIVES:
        return _torch_archive(path)
    if suffix in CAFFE:
        raise BadInput(f"{path}: {THROUGH_ONNX['caffe']}")
    if suffix == ".theano" or "theano" in path.stem.lower():
        raise BadInput(f"{path}: {THROUGH_ONNX['theano']}")
    if suffix == ".safetensors":
        raise BadInput(f"{path} holds weights without a model: give module:attribute and --weights {path}")
    if suffix in (".pdmodel", ".pdiparams"):
        raise BadInput(f"{path} is one part of a PaddlePaddle model: give the folder, {path.parent}")
    if suffix == ".pb":
        raise BadInput(f"{path} is part of a TensorFlow SavedModel: give the folder, {path.parent}")
    raise BadInput(f"{path} has an unknown suffix. Supported: {_known()}")


def _torch_archive(path: Path) -> str:
    """A TorchScript archive contains ``code/``. A file of torch.save is a pickle of a module or of weights."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name.split("/", 1)[-1] for name in archive.namelist()}
        if any(name.startswith("code/") for name in members):
            return "torchscript"
        if any(name.startswith(("models/", "data/weights/")) for name in members):
            return "torch_export"
    raise BadInput(
        f"{path} was written by torch.save. A whole module is a pickle, which runs code when opened and needs its "
        "classes. If the file holds a state_dict, give module:attribute and --weights. Otherwise save one with "
        "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'), or use torch.export.save"
    )


def _known() -> str:
    return "; ".join(kind.about for kind in KINDS.values())
