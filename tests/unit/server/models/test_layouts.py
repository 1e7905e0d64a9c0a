"""Layouts: every folder that --model takes is taken by a load with a path too, and files of tools are ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.errors import BrokenArtifact
from server.models.repository import identify, open_found, scan, stamp
from server.settings.options import Settings

SCRIPT = b"def model_fn(folder):\n    return 1\n"

LAYOUTS: dict[str, tuple[list[str], str]] = {
    "a file at the top": (["model.onnx"], "model.onnx"),
    "one folder too high": (["mymodel/model.onnx"], "mymodel/model.onnx"),
    "two folders too high": (["a/b/c/model.onnx"], "a/b/c/model.onnx"),
    "versions": (["1/model.onnx", "2/model.onnx"], "2/model.onnx"),
    "a model and its version": (["mymodel/1/model.onnx"], "mymodel/1/model.onnx"),
    "a script one folder too high": (["mymodel/code/inference.py"], "mymodel/code/inference.py"),
    "sidecars of a Mac": (["model.onnx", "._model.onnx", "._code", "__MACOSX/._model.onnx"], "model.onnx"),
    "a Mac's archive one folder too high": (["m/model.onnx", "__MACOSX/m/._model.onnx", "._m"], "m/model.onnx"),
    "a swap file of an editor": (["model.onnx", ".model.onnx.onnx"], "model.onnx"),
    "hidden folders": (["model.onnx", ".ipynb_checkpoints/model.onnx", ".git/HEAD"], "model.onnx"),
    "Optimum": (["config.json", "tokenizer.json", "onnx/model.onnx"], "onnx/model.onnx"),
    "Optimum, several variants": (["config.json", "onnx/model.onnx", "onnx/model_quantized.onnx"], "onnx/model.onnx"),
    "a Triton model": (["config.pbtxt", "1/model.onnx"], "1/model.onnx"),
}


def lay_out(root: Path, files: list[str]) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(SCRIPT if name.endswith(".py") else b"")
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_read_at_start_and_by_a_load(layout: str, tmp_path: Path) -> None:
    files, served = LAYOUTS[layout]
    root = lay_out(tmp_path / "root", files)
    for found in (scan(root, Settings())[-1], identify(root, Settings(), name="given")):
        artifact = open_found(found, Settings())
        assert (artifact.script or artifact.model_path) == root / served
    assert identify(root, Settings(), name="given").name == "given"
    assert identify(root, Settings()).given == root


def test_a_folder_of_several_models_is_no_model(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["a/1/model.onnx", "b/1/model.onnx"])
    assert len(scan(root, Settings())) == 2
    with pytest.raises(BrokenArtifact, match="several models"):
        identify(root, Settings())


@pytest.mark.parametrize(
    "files", [["._model.onnx"], [".hidden/model.onnx"], ["__MACOSX/model.onnx"], ["a.onnx", "b.onnx"]]
)
def test_hidden_files_alone_are_no_model_nor_are_two_equals(files: list[str], tmp_path: Path) -> None:
    root = lay_out(tmp_path, files)
    with pytest.raises(BrokenArtifact):
        open_found(identify(root, Settings()), Settings())


def test_hidden_files_do_not_change_a_stamp(tmp_path: Path) -> None:
    root = lay_out(tmp_path, ["model.onnx"])
    before = stamp(root)
    lay_out(root, [".DS_Store", "._model.onnx", "__MACOSX/x", ".git/HEAD"])
    assert stamp(root) == before
    lay_out(root, ["model.onnx.data"])
    assert stamp(root) != before


def test_an_empty_folder_below_is_not_named_in_place_of_the_one_that_was_given(tmp_path: Path) -> None:
    lay_out(tmp_path, ["cache/notes.txt"])
    with pytest.raises(BrokenArtifact, match=f"{tmp_path.name} must hold"):
        scan(tmp_path, Settings())
