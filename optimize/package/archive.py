"""The archive: an artifact as ``model.tar.gz`` for SageMaker, with equal bytes for equal content."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

from server import artifact
from server.errors import BrokenArtifact

from ..errors import BadInput

NAME = "model.tar.gz"

EPOCH = 0
"""Modification time of every member and of the archive, so that two archives of one artifact are equal."""


def write(root: Path, target: Path, *, force: bool) -> Path:
    """Pack the artifact in ``root`` into ``target``, after checking every digest.

    Members are the manifest and the files that it lists, in order of name, with neutral owners, modes and times; no
    links, nothing else. Raises BrokenArtifact when a file differs from the manifest or is a link, BadInput when
    ``target`` exists and ``force`` is not given.
    """
    found = artifact.read(root)
    names = sorted({artifact.MANIFEST, *(row.path for row in found.manifest.files)})
    for name in names:
        for step in (root / name, *(root / name).parents):
            if step != root and step.is_relative_to(root) and step.is_symlink():
                raise BrokenArtifact(f"{name} is a symbolic link, which does not survive packing: put the file there")
    artifact.verify(found)
    if target.exists() and not force:
        raise BadInput(f"{target} exists: --force replaces it")
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
