"""The model source: what ARTIFACT names, its digest, its size, its manifest, and its archives for upload."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from server import archive, artifact
from server.artifact import Manifest
from server.errors import BrokenArtifact

from .errors import InvalidDescription

ARCHIVE_ENDING = ".tar.gz"
REMOTE = "s3://"
ARCHIVE_BYTES = 5 * 1024**3
"""The largest object that one PutObject takes."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model that becomes one ``model.tar.gz``. ``digest``: SHA-256 of its content. ``bytes``: size of its files.

    ``path``: a folder, or an archive as it is.
    """

    path: Path
    digest: str
    bytes: int
    manifest: Manifest | None = None

    def pack(self, workspace: Path) -> Path:
        """The archive to upload. Raises InvalidDescription for broken models and for archives above 5 GiB."""
        try:
            packed = self._packed(workspace)
        except BrokenArtifact as error:
            raise InvalidDescription(str(error)) from error
        if packed.stat().st_size > ARCHIVE_BYTES:
            raise InvalidDescription(
                f"{self.path} packs to more than 5 GiB, which one upload does not take: "
                "upload it with aws s3 cp, and pass its s3:// address as ARTIFACT"
            )
        return packed

    def _packed(self, workspace: Path) -> Path:
        if self.path.is_file():
            return self.path
        target = workspace / f"{self.digest}{ARCHIVE_ENDING}"
        if self.manifest is not None:
            return archive.write(self.path, target)
        return archive.write_folder(self.path, target)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """``remote``: the s3:// address, or None. ``files``: the models of this machine, by name.

    A single model has the name "". A multi-model source has one name for each target model.
    """

    files: Mapping[str, ModelFile] = field(default_factory=dict)
    remote: str | None = None

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the first model that has one."""
        return next((one.manifest for one in self.files.values() if one.manifest is not None), None)

    @property
    def bytes(self) -> int | None:
        """The size of the largest model; None: not known."""
        return max((one.bytes for one in self.files.values()), default=None)

    @property
    def digest(self) -> str:
        """SHA-256 of all content; of the address for a remote source."""
        if self.remote is not None:
            return hashlib.sha256(self.remote.encode()).hexdigest()
        listed = "".join(f"{name} {one.digest}\n" for name, one in self.files.items())
        return hashlib.sha256(listed.encode()).hexdigest()


def find(artifact_name: str, *, multi_model: bool) -> ModelSource:
    """The source that ARTIFACT names. Raises InvalidDescription."""
    if artifact_name.startswith(REMOTE):
        return ModelSource(remote=artifact_name)
    path = Path(artifact_name)
    if not path.exists():
        raise InvalidDescription(f"{artifact_name}: no such file or folder; run optimize, or pass an s3:// address")
    if not multi_model:
        return ModelSource({"": _one(path)})
    if not path.is_dir():
        raise InvalidDescription(f"{artifact_name}: a multi-model endpoint takes a folder with a model in each entry")
    entries = {entry.name.removesuffix(ARCHIVE_ENDING): entry for entry in sorted(path.iterdir()) if _is_model(entry)}
    if not entries or (path / artifact.MANIFEST).is_file():
        raise InvalidDescription(f"{artifact_name}: a multi-model endpoint takes a folder of models, one in each entry")
    return ModelSource({name: _one(entry) for name, entry in entries.items()})


def _is_model(path: Path) -> bool:
    return path.is_dir() or path.name.endswith(ARCHIVE_ENDING)


def _one(path: Path) -> ModelFile:
    if path.is_file():
        if not path.name.endswith((ARCHIVE_ENDING, ".tgz")):
            raise InvalidDescription(f"{path}: give a model folder, or its model.tar.gz")
        return ModelFile(path, artifact.digest(path), path.stat().st_size)
    if (path / artifact.MANIFEST).is_file():
        try:
            found = artifact.read(path)
        except BrokenArtifact as error:
            raise InvalidDescription(str(error)) from error
        size = sum(row.bytes for row in found.manifest.files)
        return ModelFile(path, artifact.digest(path / artifact.MANIFEST), size, found.manifest)
    names = archive.files(path)
    if not names:
        raise InvalidDescription(f"{path} is empty: give a model folder")
    lines = "".join(f"{name} {artifact.digest(path / name)}\n" for name in names)
    return ModelFile(path, hashlib.sha256(lines.encode()).hexdigest(), sum(_sizes(path, names)))


def _sizes(root: Path, names: list[str]) -> Iterator[int]:
    for name in names:
        yield (root / name).stat().st_size
