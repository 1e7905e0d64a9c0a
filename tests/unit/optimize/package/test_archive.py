"""The archive: the same bytes for the same artifact, and nothing in it that the manifest does not list."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from optimize.__main__ import main
from optimize.evaluation.dataset import Dataset
from optimize.package import artifact as package
from optimize.package.artifact import Findings, Identity
from server import archive
from server.errors import BrokenArtifact


@pytest.fixture
def root(tmp_path: Path, findings: Findings, rows: Dataset) -> Path:
    directory = tmp_path / "artifact"
    directory.mkdir()
    package.write(directory, Identity("small", "1", "", ()), findings, rows)
    return directory


def test_equal_content_gives_equal_bytes(root: Path, tmp_path: Path) -> None:
    first = archive.write(root, tmp_path / "a.tar.gz").read_bytes()
    for path in root.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    (root / "notes.txt").write_text("of nobody's business")
    assert archive.write(root, tmp_path / "b.tar.gz").read_bytes() == first
    with tarfile.open(tmp_path / "a.tar.gz") as packed:
        members = packed.getmembers()
    assert [member.name for member in members] == ["manifest.json", "model.onnx", "report.html", "samples.npz"]
    assert all(member.isreg() and (member.mtime, member.uid, member.mode) == (0, 0, 0o644) for member in members)


def test_a_file_that_changed_is_not_packed(root: Path, tmp_path: Path) -> None:
    (root / "report.html").write_text("another")
    with pytest.raises(BrokenArtifact, match=r"report\.html"):
        archive.write(root, tmp_path / "a.tar.gz")
    assert not list(tmp_path.glob("*.tar.gz*"))


def test_a_link_is_not_packed(root: Path, tmp_path: Path) -> None:
    moved = (root / "report.html").rename(tmp_path / "elsewhere.html")
    (root / "report.html").symlink_to(moved)
    with pytest.raises(BrokenArtifact, match="symbolic link"):
        archive.write(root, tmp_path / "a.tar.gz")


def test_an_archive_is_replaced_only_by_force(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package", str(root)]) == 0
    assert (tmp_path / "model.tar.gz").is_file()
    assert main(["package", str(root)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["package", str(root), "--force"]) == 0


def test_a_folder_without_a_manifest_is_packed_whole(tmp_path: Path) -> None:
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "inference.py").write_text("x = 1\n")
    (tmp_path / "model" / "model.onnx").write_bytes(b"onnx")
    archive.write_folder(tmp_path / "model", tmp_path / "model.tar.gz")
    with tarfile.open(tmp_path / "model.tar.gz") as packed:
        assert packed.getnames() == ["code/inference.py", "model.onnx"]
