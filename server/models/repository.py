"""The repository: the models and versions under a path, and how one of them is opened. Blocking file access."""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .. import artifact as artifacts
from ..artifact import NO_OVERRIDES, Artifact, Manifest, Overrides
from ..errors import BrokenArtifact, NoSuchArtifact, SlipwayError
from ..scripts.model_archive import SUFFIX as ARCHIVE
from ..settings.options import Settings
from ..tensors import ModelSpec
from ..wiring import PIPELINE
from .layouts import archive, mlserver, optimum, triton
from .layouts.foreign import foreign
from .names import check_name, check_version, is_valid
from .script_files import script_artifact, script_in, script_of
from .sent import hold

log = logging.getLogger("slipway.repository")

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of every file: two stamps differ when a file has changed."""

NAME = re.compile(r"(?!__MACOSX$)[^./][^/]*")
"""Files and folders that count. Hidden ones are unfinished copies, or belong to tools: ``._model.onnx`` of a Mac."""

ONNX_FOLDER = "onnx"
"""Where Optimum and the Hugging Face Hub keep the ONNX files of a model."""

ONNX_FILE = "model.onnx"
"""The file that is served where a folder has several."""

DIGITS = frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class Found:
    """A version on disk that can be loaded. ``given``: the path that was asked for, where the version lies below it.

    ``overrides``: of the call that loads it. ``most``: how many of the model's versions are served, the highest; 0:
    all, None: as the settings say. ``sent``: the folder of the files that a client has sent, which has the version.
    """

    path: Path
    name: str
    version: str
    stamp: Stamp = ()
    given: Path | None = None
    overrides: Overrides = NO_OVERRIDES
    most: int | None = None
    sent: Path | None = None


def scan(root: Path, settings: Settings) -> list[Found]:
    """Everything under ``root``, each model's versions from the lowest to the highest.

    ``root`` may be an artifact or an ONNX file, a folder of versions ``VERSION/`` or a folder of models
    ``NAME/VERSION/``; in folders their names win over what a manifest says. Raises BrokenArtifact or NoSuchArtifact.
    """
    if is_artifact(root, settings) or not root.is_dir():
        return [_identify(root, settings)]
    found = _versions(root, settings)
    found += [_packed(path, settings) for path in sorted(root.glob("*" + ARCHIVE)) if NAME.fullmatch(path.name)]
    if not found and script_of(root, settings) is not None:  # a script outside of an empty folder
        return [_identify(root, settings)]
    if not found:
        raise BrokenArtifact(
            f"{root.name} must hold a {artifacts.MANIFEST} or one .onnx file, a pipeline.json or a script "
            "(code/inference.py), or be a folder NAME/VERSION/" + _hint(root)
        )
    if settings.name:
        if len({one.name for one in found}) > 1:
            raise BrokenArtifact(f"{root.name} holds several models: they cannot all be served as {settings.name!r}")
        found = [replace(one, name=settings.name) for one in found]
    return found


def _versions(root: Path, settings: Settings) -> list[Found]:
    """The versions below a folder that is no artifact itself; single folders above them are passed over."""
    children = _folders(root)
    named = [child for child in children if mlserver.is_settings(child)]
    found = [_identify(child, settings) for child in named]
    children = [child for child in children if child not in named]
    models = [root] if any(is_artifact(child, settings) for child in children) else children
    found += [one for model in models for one in _versions_of(model, settings)]
    return found or (_versions(children[0], settings) if len(children) == 1 else [])


def _versions_of(model: Path, settings: Settings) -> list[Found]:
    """The versions in a model's folder that may be served, from the lowest to the highest."""
    folders = {folder.name: folder for folder in _folders(model) if is_artifact(folder, settings)}
    names, most = triton.wanted(model, sorted(folders, key=version_key))
    config = stamp(model / triton.CONFIG) if (model / triton.CONFIG).is_file() else ()
    found = [Found(folders[name], model.name, name, stamp(folders[name]) + config, most=most) for name in names]
    return [
        replace(_identify(one.path, settings), given=one.path) if mlserver.is_settings(one.path) else one
        for one in found
    ]


def _packed(path: Path, settings: Settings) -> Found:
    """A model archive in a folder of them. One that cannot be read gets the name of its file, and fails at its load."""
    try:
        return _identify(path, settings)
    except SlipwayError:
        return Found(path, path.stem, "1", stamp(path))


def _hint(root: Path) -> str:
    """What the folder holds instead, or a folder in it; empty where that is not known."""
    about = foreign(root) or next((found for found in map(foreign, _folders(root)) if found), "")
    return f"; {about}" if about else ""


def identify(path: Path, settings: Settings, name: str = "", version: str = "") -> Found:
    """The one model under a path, in any layout that :func:`scan` reads; ``name`` and ``version`` win over its own.

    Of several versions the highest. Raises BrokenArtifact, also for a folder of several models, or NoSuchArtifact.
    """
    found = scan(path, settings)
    if len({one.name for one in found}) > 1:
        raise BrokenArtifact(f"{path.name} holds several models: pass the folder of one of them")
    newest = found[-1]
    if not newest.version[:1].isdigit():  # no folder of versions, but a model that was packed one folder too high
        newest = replace(newest, version=_identify(newest.path, settings).version)
    name, version = name or settings.name or newest.name, version or newest.version
    check_name(name)
    check_version(version)
    return replace(newest, name=name, version=version, given=path)


def _identify(path: Path, settings: Settings) -> Found:
    """The name and version of an artifact, by its manifest or its file."""
    if (path / artifacts.MANIFEST).is_file():
        manifest = artifacts.read(path).manifest
        name, version = manifest.name, manifest.version
    elif archive.is_archive(path):
        packed = archive.peek(path)
        name, version = packed.name, packed.version
    else:
        manifest = _bare(path, None if path.is_file() else script_of(path, settings), settings).manifest
        name, version = manifest.name, manifest.version
    check_name(name)
    check_version(version)
    return Found(path, settings.name or name, version, stamp(path))


def scan_sent(folder: Path, name: str, settings: Settings) -> list[Found]:
    """The versions of the model ``name`` that a client has sent to a folder ``VERSION/``."""
    check_name(name)
    return [replace(one, name=name, sent=folder) for one in _versions_of(folder, settings)]


def open_artifact(path: Path, settings: Settings) -> Artifact:
    """An artifact directory, a directory with a bare ``model.onnx`` or a script, or an ONNX file.

    Raises BrokenArtifact, or NoSuchArtifact when there is nothing at all.
    """
    if archive.is_archive(path):
        return archive.open_archive(path, scripts=settings.scripts)
    script = None if path.is_file() else script_of(path, settings)
    if (path / artifacts.MANIFEST).is_file():
        artifact = artifacts.read(path)
        if settings.verify_digests:
            artifacts.verify(artifact)
    else:
        artifact = _bare(path, script, settings)
    if not path.is_dir() or artifact.manifest.pipeline is not None:
        return replace(artifact, script=script)
    return _described(replace(artifact, script=script), path)


def _described(artifact: Artifact, path: Path) -> Artifact:
    """The artifact with what a config.pbtxt says, and with the class names that lie beside the model."""
    config, labels = triton.config_of(path), artifact.manifest.labels
    if config is not None:
        found = triton.config_path(path)
        labels = labels or triton.labels(config, found.parent if found is not None else path)
        artifact = replace(artifact, declaration=config.declaration)
    if not labels and not artifact.declared:
        labels = optimum.labels(path)
    untold = optimum.text_pipeline(path)[1] if config is None and not artifact.declared and not artifact.script else ""
    if untold:
        log.info("served as tensors, without the tokenizer beside it model=%s reason=%r", path.name, untold)
    return replace(artifact, manifest=replace(artifact.manifest, labels=labels))


def open_found(found: Found, settings: Settings) -> Artifact:
    """The artifact, under the name and version that it is served as."""
    opened = partial(open_artifact, found.path, settings)
    artifact = opened() if found.sent is None else hold(found.sent, opened)
    manifest = replace(artifact.manifest, name=found.name, version=found.version)
    declaration, overrides = artifact.declaration, found.overrides
    if overrides.max_batch_size:  # the call's own limit counts; that of a model without a batch axis stays
        declaration = replace(declaration, max_batch_size=declaration.max_batch_size and overrides.max_batch_size)
    return replace(artifact, manifest=manifest, declaration=declaration, overrides=overrides)


def is_artifact(path: Path, settings: Settings) -> bool:
    """Whether a path looks like one artifact, complete or not."""
    if path.is_dir():
        declared = any((path / name).is_file() for name in (artifacts.MANIFEST, PIPELINE, mlserver.SETTINGS))
        if declared or _onnx_files(path) or triton.is_version(path) or archive.is_archive(path):
            return True
        return script_in(path, settings) is not None
    return path.is_file()


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Orders versions: numbers in them as numbers (``10`` after ``9``, ``1.10`` after ``1.9``), text before numbers.

    Numbers are compared by their digits: they may have more than Python converts.
    """
    parts = [(part, part.lstrip("0")) for part in re.findall(r"[0-9]+|[^0-9._-]+", version)]
    return tuple((1, len(bare), bare) if part[0] in DIGITS else (0, 0, part) for part, bare in parts)


def stamp(path: Path) -> Stamp:
    """The stamp of a path now. A file that disappears meanwhile is left out."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    rows = []
    for file in files:
        if not all(NAME.fullmatch(part) for part in file.relative_to(path).parts):
            continue
        try:
            state = file.stat()
        except OSError:
            continue
        rows.append((file.name, state.st_size, state.st_mtime_ns))
    return tuple(rows)


def _bare(path: Path, script: Path | None, settings: Settings) -> Artifact:
    if (path / PIPELINE).is_file():
        return artifacts.read_pipeline(path)
    if mlserver.is_settings(path):
        return _of_mlserver(path, settings)
    config = triton.config_of(path) if script is None and path.is_dir() else None
    if config is not None and (triton.is_version(path) or config.filename or config.platform):
        return triton.artifact(path, config)
    described = optimum.text_pipeline(path)[0] if script is None and path.is_dir() else None
    if described is not None:
        return artifacts.of_pipeline(path, described, optimum.CONFIG, optimum.labels(path))
    if path.is_dir() or script is not None:
        files = _onnx_files(path)
        if script is not None and len(files) != 1:
            return script_artifact(path, script)
        if len(files) != 1:
            found = f"{len(files)} of them: pass the path of one" if files else "neither"
            raise BrokenArtifact(
                f"{path.name} must hold a {artifacts.MANIFEST} or one .onnx file, it holds {found}{_hint(path)}"
            )
        return _onnx_artifact(path, files[0])
    if not path.is_file():
        raise NoSuchArtifact(f"there is no model at {path}: pass --model DIR, or mount one there")
    if path.suffix != ".onnx":
        raise BrokenArtifact(f"{path.name} is not an .onnx file{_hint(path.parent)}")
    return _onnx_artifact(path.parent, path)


def _onnx_artifact(root: Path, file: Path) -> Artifact:
    inside = file.relative_to(root).as_posix()
    return Artifact(root, Manifest(file.stem, "1", "onnxruntime", inside, ModelSpec((), ())), declared=False)


def _onnx_files(path: Path) -> list[Path]:
    """The ONNX files of a folder, or of its folder ``onnx/``: ``model.onnx`` alone, where it is among them."""
    for folder in (path, path / ONNX_FOLDER):
        files = sorted(file for file in folder.glob("*.onnx") if NAME.fullmatch(file.name) and file.is_file())
        if files:
            return [file for file in files if file.name == ONNX_FILE] or files
    return []


def _of_mlserver(path: Path, settings: Settings) -> Artifact:
    """The model that a model-settings.json names: an ONNX file, or a folder that the server takes. Raises
    BrokenArtifact."""
    said = mlserver.read_settings(path)
    model = mlserver.model_path(path, said)
    if model.is_file():
        made = _onnx_artifact(path, model)
    elif model != path:
        made = open_artifact(model, settings)
    else:
        files = _onnx_files(path)
        if len(files) != 1:
            raise BrokenArtifact(f"{mlserver.SETTINGS} names no parameters.uri, and there are {len(files)} .onnx files")
        made = _onnx_artifact(path, files[0])
    return replace(
        made, manifest=replace(made.manifest, name=said.name, version=said.version), declaration=said.declaration
    )


def _folders(root: Path) -> list[Path]:
    folders = sorted(child for child in root.iterdir() if child.is_dir() and NAME.fullmatch(child.name))
    for folder in folders:
        if not is_valid(folder.name, folder.name):
            _warn_of_name(ascii(folder.name)[:200])
    return [folder for folder in folders if is_valid(folder.name, folder.name)]


@functools.lru_cache(maxsize=100)
def _warn_of_name(name: str) -> None:
    """Warn once of a folder: a followed folder is scanned again and again."""
    log.warning("a folder is ignored because its name is too long or not printable name=%s; rename it", name)
