"""The archive: an artifact as ``model.tar.gz`` for SageMaker, with equal bytes for equal content."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Sequence
from pathlib import Path

from . import artifact
from .errors import BrokenArtifact

NAME = "model.tar.gz"

EPOCH = 0
"""Modification time of every member and of the archive, so that two archives of one artifact are equal."""


def write(root: Path, target: Path) -> Path:
    """Pack the artifact in ``root`` into ``target``, after checking every digest.

    Members are the manifest and the files that it lists, in order of name, with neutral owners, modes and times; no
    links, nothing else. Raises BrokenArtifact when a file differs from the manifest or is a link.
    """
    found = artifact.read(root)
    names = sorted({artifact.MANIFEST, *(row.path for row in found.manifest.files)})
    _refuse_links(root, names)
    artifact.verify(found)
    return _pack(root, names, target)


def write_folder(root: Path, target: Path) -> Path:
    """Pack every file of a model folder without a manifest, in the same way. Raises BrokenArtifact for links."""
    names = files(root)
    _refuse_links(root, names)
    return _pack(root, names, target)


def files(root: Path) -> list[str]:
    """The paths of all files below ``root``, relative to it, in order."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _refuse_links(root: Path, names: Sequence[str]) -> None:
    for name in names:
        for step in (root / name, *(root / name).parents):
            if step != root and step.is_relative_to(root) and step.is_symlink():
                raise BrokenArtifact(f"{name} is a symbolic link, which does not survive packing: put the file there")


def _pack(root: Path, names: Sequence[str], target: Path) -> Path:
    partial = target.with_name(f".{target.name}.partial")
    try:
        # gzip's own header would carry the time and the name of the file.
        with (
            partial.open("wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=EPOCH) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for name in names:
                _add(archive, root / name, name)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = path.stat().st_size, EPOCH, 0o644
    with path.open("rb") as file:
        archive.addfile(member, file)
