"""Detection: every kind of trained model by suffix or content, and a remedy for unsupported sources."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from optimize.errors import BadInput
from optimize.sources import KINDS, detection


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("m.onnx", "onnx"),
        ("m.pt2", "torch_export"),
        ("m.ts", "torchscript"),
        ("m.jit", "torchscript"),
        ("m.tflite", "tflite"),
        ("m.pkl", "pickle"),
        ("m.joblib", "pickle"),
        ("m.skops", "skops"),
        ("m.ubj", "xgboost"),
        ("m.txt", "lightgbm"),
        ("m.keras", "keras"),
        ("M.ONNX", "onnx"),
    ],
)
def test_files_are_known_by_their_suffix(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).touch()
    assert detection.detect(str(tmp_path / name)) is KINDS[kind]


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("config.json", "model.safetensors", "other.onnx"), "huggingface"),
        (("saved_model.pb",), "tensorflow"),
        (("inference.json", "inference.pdiparams"), "paddle"),
        (("m.onnx", "m.onnx.data"), "onnx"),
    ],
)
def test_folders_are_known_by_their_content(tmp_path: Path, names: tuple[str, ...], kind: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert detection.detect(str(tmp_path)) is KINDS[kind]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.caffemodel", "Caffe models are not read.*give the .onnx file"),
        ("net.theano", "Theano models are not read.*--weights"),
        ("w.safetensors", "give module:attribute and --weights"),
        ("m.pt", "written by torch.save"),
        ("saved_model.pb", "give the folder"),
        ("inference.pdmodel", "give the folder"),
        ("m.xyz", "unknown suffix"),
    ],
)
def test_unsupported_files_name_a_remedy(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match=words):
        detection.detect(str(tmp_path / name))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("deploy.prototxt", "net.caffemodel"), "Caffe"),
        (("config.json", "pytorch_model.bin"), "safe_serialization=True"),
        (("readme.md",), "no supported model"),
    ],
)
def test_unsupported_folders_name_a_remedy(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(BadInput, match=words):
        detection.detect(str(tmp_path))


@pytest.mark.parametrize(
    ("member", "kind"), [("m/code/__torch__.py", "torchscript"), ("m/models/model.json", "torch_export")]
)
def test_torch_archives_are_known_by_their_content(tmp_path: Path, member: str, kind: str) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "")
    assert detection.detect(str(path)) is KINDS[kind]


def test_other_text_is_a_factory_or_refused() -> None:
    assert detection.detect("examples.digits.model:build") is KINDS["torch_factory"]
    with pytest.raises(BadInput, match="not a file, a folder or module:attribute"):
        detection.detect("no/such/file.onnx")
