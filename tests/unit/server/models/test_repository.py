"""The repository: which models and versions lie under a path, and the order of versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from server import artifact as artifacts
from server.artifact import Manifest
from server.errors import BrokenArtifact, NoSuchArtifact
from server.models.repository import open_found, scan, stamp, version_key
from server.settings.options import Settings
from server.tensors import ModelSpec
from tests.fake_models import version_folder


def names(root: Path, settings: Settings | None = None) -> list[tuple[str, str]]:
    return [(one.name, one.version) for one in scan(root, settings or Settings())]


def test_a_folder_of_models_and_versions_lowest_first(tmp_path: Path) -> None:
    for name, version in (("b", "10"), ("b", "9"), ("a", "1"), ("b", ".2.copying"), (".hidden", "1")):
        version_folder(tmp_path, name, version)
    (tmp_path / "a" / "notes").mkdir()
    (tmp_path / "README").write_text("")
    assert names(tmp_path) == [("a", "1"), ("b", "9"), ("b", "10")]


def test_a_folder_of_versions_is_one_model(tmp_path: Path) -> None:
    for version in ("2", "1"):
        version_folder(tmp_path, "digits", version)
    assert names(tmp_path / "digits") == [("digits", "1"), ("digits", "2")]
    assert names(tmp_path / "digits", Settings(name="other")) == [("other", "1"), ("other", "2")]


def test_one_artifact_and_one_file_have_their_own_names(tmp_path: Path) -> None:
    folder = version_folder(tmp_path, "m", "7")
    assert names(folder) == names(folder / "model.onnx") == [("model", "1")]
    assert names(folder, Settings(name="mine")) == [("mine", "1")]


def test_in_a_folder_its_names_win_over_the_manifests(tmp_path: Path) -> None:
    folder = version_folder(tmp_path, "m", "7")
    artifacts.write(folder, Manifest("inner", "1", "onnxruntime", "model.onnx", ModelSpec((), ())))
    (found,) = scan(tmp_path, Settings())
    manifest = open_found(found, Settings()).manifest
    assert (manifest.name, manifest.version) == ("m", "7")


def test_one_name_for_several_models_and_folders_with_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match="or be a folder NAME/VERSION/"):
        scan(tmp_path, Settings())
    with pytest.raises(NoSuchArtifact):
        scan(tmp_path / "nothing", Settings())
    for name in "ab":
        version_folder(tmp_path, name, "1")
    with pytest.raises(BrokenArtifact, match="cannot all be served as 'mine'"):
        scan(tmp_path, Settings(name="mine"))


def test_a_stamp_changes_with_the_files(tmp_path: Path) -> None:
    folder = version_folder(tmp_path, "m", "1")
    before = stamp(folder)
    assert stamp(folder) == before
    version_folder(tmp_path, "m", "1", b"more")
    assert stamp(folder) != before


def test_versions_are_ordered_with_numbers_as_numbers() -> None:
    ordered = ["rc", "1", "1.2", "1.10", "2", "10", "2024-01-02", "2024-01-10"]
    shuffled = [ordered[index] for index in (5, 2, 7, 0, 3, 6, 1, 4)]
    assert sorted(shuffled, key=version_key) == ordered
