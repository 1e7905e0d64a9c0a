"""The repository: which models and versions lie under a path, and the order of versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server import artifact as artifacts
from server.artifact import Manifest
from server.errors import BrokenArtifact, MalformedInput, NoSuchArtifact
from server.models.repository import identify, open_artifact, open_found, scan, stamp, version_key
from server.settings.options import Settings
from server.tensors import ModelSpec
from tests.fake_models import version_folder
from tests.fake_sessions import write_fake


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


def test_a_directory_with_a_manifest(tmp_path: Path) -> None:
    artifact = open_artifact(write_fake(tmp_path, "digits"), Settings())
    assert artifact.declared
    assert artifact.manifest.name == "digits"


def test_digests_are_compared_unless_switched_off(tmp_path: Path) -> None:
    write_fake(tmp_path)
    (tmp_path / "model.json").write_bytes(b"[]")
    with pytest.raises(BrokenArtifact, match=r"model\.json differs from its SHA-256"):
        open_artifact(tmp_path, Settings())
    assert open_artifact(tmp_path, Settings(verify_digests=False)).declared


@pytest.mark.parametrize("inside", ["model.onnx", "digits.onnx"])
def test_a_directory_with_one_bare_model_and_the_file_itself(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).write_bytes(b"")
    for path in (tmp_path, tmp_path / inside):
        artifact = open_artifact(path, Settings())
        assert not artifact.declared
        assert artifact.model_path == tmp_path / inside
        assert artifact.manifest.backend == "onnxruntime"
        assert artifact.manifest.name == inside.removesuffix(".onnx")


@pytest.mark.parametrize(("files", "found"), [([], "neither"), (["a.onnx", "b.onnx"], "2 of them")])
def test_a_directory_with_no_model_or_several_is_refused(tmp_path: Path, files: list[str], found: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        BrokenArtifact, match=f"must hold a manifest.json or one .onnx file, it holds {found}"
    ) as refused:
        open_artifact(tmp_path, Settings())
    assert str(tmp_path) not in str(refused.value)


def test_a_path_that_is_not_there_is_refused_saying_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BrokenArtifact, match=r"there is no model at .*: pass --model DIR, or mount one there"):
        open_artifact(tmp_path / "nothing", Settings())


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(BrokenArtifact, match=r"model\.pt is not an \.onnx file"):
        open_artifact(tmp_path / "model.pt", Settings())


@pytest.mark.parametrize("text", ["\ud800", "a\nb", "a\0b", "x" * 256, "\u202e1"])
@pytest.mark.parametrize("field", ["name", "version"])
def test_a_name_that_would_spoil_a_list_is_refused(text: str, field: str, tmp_path: Path) -> None:
    write_fake(tmp_path)
    with pytest.raises(MalformedInput, match="printable"):
        identify(tmp_path, Settings(), **{field: text})


def test_a_manifest_with_such_a_name_is_refused(tmp_path: Path) -> None:
    write_fake(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "name": "\ud800"}))
    with pytest.raises(MalformedInput):
        scan(tmp_path, Settings())


def test_versions_of_thousands_of_digits_are_compared_as_numbers() -> None:
    assert version_key("9" * 5_000) > version_key("8" * 5_000) > version_key("10") > version_key("0009")
    assert version_key("007") == version_key("7")
    assert version_key("\u0663") < version_key("1")
