"""Archives of TorchServe on disk: the manifest inside, and the bounded extraction into a private folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...artifact import Artifact
from ...declaration import Declaration, Handler
from ...errors import BrokenArtifact
from ...scripts.model_archive import (
    BUILT_IN,
    BUILT_IN_SCRIPT,
    MANIFEST,
    MOST_BYTES,
    NOT_BUILT_IN,
    SUFFIX,
    ArchiveManifest,
    archive_in,
    read_config,
    read_manifest,
)
from ...temporary_folder import ArchiveFolder
from ..script_files import script_artifact

MOST_FILES = 10_000
MOST_RATIO = 100
"""The most bytes that come out of one byte of an archive above the first :data:`FREE_BYTES`. Weights give 1 to 3."""

FREE_BYTES = 64 << 20
DISK_LEFT = 0.1
"""The share of the free disk that an extraction leaves."""

CHUNK = 1 << 20
IGNORED_CONFIG = ("minWorkers", "maxWorkers", "responseTimeout", "startupTimeout", "deviceType", "parallelType")
"""Keys of ``model-config.yaml`` that TorchServe's own front end reads, and this server has settings for."""


def is_archive(path: Path) -> bool:
    """Whether a path is an archive, or the folder of an extracted one."""
    return (path.suffix == SUFFIX and path.is_file()) or (path / MANIFEST).is_file()


def peek(path: Path) -> ArchiveManifest:
    """The manifest of an archive, without extracting it. Raises BrokenArtifact."""
    if path.is_dir():
        return archive_in(path)
    with _opened(path) as archive:
        try:
            with archive.open(MANIFEST) as file:
                return read_manifest(file.read(MOST_BYTES))
        except KeyError as error:
            raise BrokenArtifact(f"{path.name} is no model archive: it has no {MANIFEST}") from error


def open_archive(path: Path, *, scripts: bool) -> Artifact:
    """The archive as an artifact whose script is the handler. A file is extracted; the artifact owns that folder.

    Raises BrokenArtifact, also where ``scripts`` says that no code is run.
    """
    manifest = peek(path)
    if not scripts:
        raise BrokenArtifact(f"{path.name} contains a handler, and --no-scripts forbids scripts")
    extracted = None if path.is_dir() else ArchiveFolder()
    try:
        if extracted is not None:
            with _opened(path) as archive:
                _extract(archive, extracted.path, path.stat().st_size)
        return _artifact(path if extracted is None else extracted.path, manifest, extracted)
    except BaseException:
        if extracted is not None:
            extracted.remove()
        raise


def _artifact(root: Path, manifest: ArchiveManifest, extracted: ArchiveFolder | None) -> Artifact:
    script, attribute = root / manifest.module, manifest.attribute
    if not script.is_file() and script.stem in NOT_BUILT_IN:
        raise BrokenArtifact(
            f"the handler {script.stem!r} is TorchServe's own, which is not here: {NOT_BUILT_IN[script.stem]}; write a "
            "class derived from BaseHandler in a handler.py, and archive it with the model"
        )
    if not script.is_file() and script.stem in BUILT_IN:
        script, attribute = BUILT_IN_SCRIPT, BUILT_IN[script.stem]
    if not script.is_file():
        raise BrokenArtifact(f"the archive has no file {manifest.module}, which its manifest names as the handler")
    config = read_config(root, manifest)
    declaration = Declaration(
        file=manifest.config or MANIFEST,
        max_queue_delay_us=_whole(config, "maxBatchDelay", 3_600_000) * 1_000,
        ignored=tuple(name for name in IGNORED_CONFIG if name in config),
        handler=Handler(attribute, manifest.requirements, _whole(config, "batchSize", 10_000)),
    )
    made = script_artifact(root, script)
    renamed = replace(made.manifest, name=manifest.name, version=manifest.version)
    return replace(made, manifest=renamed, script=script, declaration=declaration, temporary=extracted)


def _whole(config: dict[str, object], name: str, most: int) -> int:
    value = config.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise BrokenArtifact(f"model-config.yaml: {name} must be a whole number from 0 to {most}")
    return value


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive. Raises BrokenArtifact for one that cannot be read, also while it is used."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BrokenArtifact(f"{path.name} cannot be read as a model archive: it must be a zip file") from error
    except OSError as error:
        raise BrokenArtifact(f"{path.name} cannot be extracted: {error.strerror or 'it is damaged'}") from error


def _extract(archive: zipfile.ZipFile, folder: Path, archive_bytes: int) -> None:
    """Write all files of an archive below a folder. Sizes are counted while they are written: heads may lie."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES:
        raise BrokenArtifact(f"the archive has {len(entries)} files, at most {MOST_FILES} are extracted")
    free = int(shutil.disk_usage(folder).free * (1 - DISK_LEFT))
    left = most = min(max(MOST_RATIO * archive_bytes, FREE_BYTES), free)
    for entry in entries:
        target = folder / _safe(entry)
        if entry.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("xb") as written:
            while chunk := source.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise BrokenArtifact(f"the archive expands to more than {most} bytes, {MOST_RATIO} times its size")
                written.write(chunk)


def _safe(entry: zipfile.ZipInfo) -> PurePosixPath:
    """The path of an entry. Raises BrokenArtifact for one that leaves the folder, a link, or an encrypted file."""
    path = PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not path.parts:
        raise BrokenArtifact(f"the archive has the path {ascii(entry.filename)[:80]}, which leaves its folder")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BrokenArtifact(f"the archive has {ascii(entry.filename)[:80]}, which is a link or a device")
    if entry.flag_bits & 1:
        raise BrokenArtifact(f"the archive has {ascii(entry.filename)[:80]}, which is encrypted")
    return path
