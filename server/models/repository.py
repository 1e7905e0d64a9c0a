"""The repository: the models and versions under a path, and how one of them is opened. Blocking file access."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from .. import artifact as artifacts
from ..artifact import Artifact, Manifest
from ..errors import BrokenArtifact, NoSuchArtifact
from ..settings.options import Settings
from ..tensors import ModelSpec
from ..wiring import PIPELINE
from .script_files import script_artifact, script_in, script_of

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of every file: two stamps differ when a file has changed."""

NAME = re.compile(r"[^./][^/]*")
"""A folder that may be a model or a version. Hidden folders are unfinished copies, or belong to tools."""


@dataclass(frozen=True, slots=True)
class Found:
    """A version on disk that can be loaded."""

    path: Path
    name: str
    version: str
    stamp: Stamp = ()


def scan(root: Path, settings: Settings) -> list[Found]:
    """Everything under ``root``, each model's versions from the lowest to the highest.

    ``root`` may be an artifact or an ONNX file, a folder of versions ``VERSION/`` or a folder of models
    ``NAME/VERSION/``; in folders their names win over what a manifest says. Raises BrokenArtifact or NoSuchArtifact.
    """
    if is_artifact(root, settings) or not root.is_dir():
        return [identify(root, settings)]
    children = _folders(root)
    models = [root] if any(is_artifact(child, settings) for child in children) else children
    found = [
        Found(version, model.name, version.name, stamp(version))
        for model in models
        for version in sorted(_folders(model), key=lambda folder: version_key(folder.name))
        if is_artifact(version, settings)
    ]
    if not found and script_of(root, settings) is not None:  # a script outside of an empty folder
        return [identify(root, settings)]
    if not found:
        raise BrokenArtifact(
            f"{root} must hold a {artifacts.MANIFEST} or one .onnx file, a pipeline.json or a script "
            "(code/inference.py), or be a folder NAME/VERSION/"
        )
    if settings.name:
        if len({one.name for one in found}) > 1:
            raise BrokenArtifact(f"{root} holds several models: they cannot all be served as {settings.name!r}")
        found = [replace(one, name=settings.name) for one in found]
    return found


def identify(path: Path, settings: Settings, name: str = "", version: str = "") -> Found:
    """The name and version of one artifact; ``name`` and ``version`` win over its manifest."""
    if (path / artifacts.MANIFEST).is_file():
        manifest = artifacts.read(path).manifest
    else:
        manifest = _bare(path, None if path.is_file() else script_of(path, settings)).manifest
    return Found(path, name or settings.name or manifest.name, version or manifest.version, stamp(path))


def open_artifact(path: Path, settings: Settings) -> Artifact:
    """An artifact directory, a directory with a bare ``model.onnx`` or a script, or an ONNX file.

    Raises BrokenArtifact, or NoSuchArtifact when there is nothing at all.
    """
    script = None if path.is_file() else script_of(path, settings)
    if (path / artifacts.MANIFEST).is_file():
        artifact = artifacts.read(path)
        if settings.verify_digests:
            artifacts.verify(artifact)
    else:
        artifact = _bare(path, script)
    return replace(artifact, script=script)


def open_found(found: Found, settings: Settings) -> Artifact:
    """The artifact, under the name and version that it is served as."""
    artifact = open_artifact(found.path, settings)
    return replace(artifact, manifest=replace(artifact.manifest, name=found.name, version=found.version))


def is_artifact(path: Path, settings: Settings) -> bool:
    """Whether a path looks like one artifact, complete or not."""
    if path.is_dir():
        declared = any((path / name).is_file() for name in (artifacts.MANIFEST, PIPELINE)) or any(path.glob("*.onnx"))
        return declared or script_in(path, settings) is not None
    return path.is_file()


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Orders versions: numbers in them as numbers (``10`` after ``9``, ``1.10`` after ``1.9``), text before numbers."""
    parts = re.findall(r"\d+|[^\d._-]+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def stamp(path: Path) -> Stamp:
    """The stamp of a path now. A file that disappears meanwhile is left out."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    rows = []
    for file in files:
        try:
            state = file.stat()
        except OSError:
            continue
        rows.append((file.name, state.st_size, state.st_mtime_ns))
    return tuple(rows)


def _bare(path: Path, script: Path | None) -> Artifact:
    if (path / PIPELINE).is_file():
        return artifacts.read_pipeline(path)
    if path.is_dir() or script is not None:
        files = sorted(path.glob("*.onnx"))
        if script is not None and len(files) != 1:
            return script_artifact(path, script)
        if len(files) != 1:
            found = f"{len(files)} of them" if files else "neither"
            raise BrokenArtifact(f"{path} must hold a {artifacts.MANIFEST} or one .onnx file, it holds {found}")
        path = files[0]
    if not path.is_file():
        raise NoSuchArtifact(f"there is no model at {path}: pass --model DIR, or mount one there")
    if path.suffix != ".onnx":
        raise BrokenArtifact(f"{path} is not an .onnx file")
    return Artifact(path.parent, Manifest(path.stem, "1", "onnxruntime", path.name, ModelSpec((), ())), declared=False)


def _folders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and NAME.fullmatch(child.name))
