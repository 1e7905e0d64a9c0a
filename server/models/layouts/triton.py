"""Folders of Triton: ``NAME/config.pbtxt`` and ``NAME/VERSION/model.onnx``; which file and versions are served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...artifact import Artifact, Manifest
from ...errors import BrokenArtifact
from ...target import DeviceTarget
from ...tensors import ModelSpec
from .foreign import foreign
from .small_files import read_labels, read_text
from .triton_config import CONFIG as CONFIG
from .triton_config import TritonConfig, read_config

VERSION = re.compile(r"[1-9][0-9]*")
"""Folders that are versions. Triton passes over all others, and over those that begin with 0."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One of Triton's backends that has the same model file here: our backend, its usual file and its device."""

    name: str
    file: str
    device: str = "cpu"


ONNX = Backend("onnxruntime", "model.onnx")
PLAN = Backend("tensorrt", "model.plan", "tensorrt")
OPENVINO = Backend("openvino", "model.xml")
BACKENDS = {
    "onnxruntime": ONNX,
    "onnxruntime_onnx": ONNX,
    "tensorrt": PLAN,
    "tensorrt_plan": PLAN,
    "openvino": OPENVINO,
}
"""By the words of ``backend`` and ``platform``."""


def config_path(path: Path) -> Path | None:
    """The config of the model in a folder, or above its version; None where there is none."""
    return next((one / CONFIG for one in (path, path.parent) if (one / CONFIG).is_file()), None)


def config_of(path: Path) -> TritonConfig | None:
    """The config of a version's folder. Raises BrokenArtifact for one that is wrong or cannot be honoured."""
    found = config_path(path)
    return None if found is None else read_config(read_text(found))


def is_version(folder: Path) -> bool:
    """Whether a folder is a version of a Triton model. It need not hold a model that can be served."""
    return VERSION.fullmatch(folder.name) is not None and (folder.parent / CONFIG).is_file()


def wanted(model: Path, versions: Sequence[str]) -> tuple[list[str], int | None]:
    """Those of a model's versions that its config lets be served, and how many at most, the highest; 0: all of them.

    None for the number: the settings decide. A config that cannot be read decides nothing: its load fails.
    """
    if not (model / CONFIG).is_file():
        return list(versions), None
    numbered = [version for version in versions if VERSION.fullmatch(version)]
    try:
        config = read_config(read_text(model / CONFIG))
    except BrokenArtifact:
        return numbered, None
    return [one for one in numbered if config.versions is None or one in config.versions], config.latest


def artifact(folder: Path, config: TritonConfig) -> Artifact:
    """The model file of a version's folder. Raises BrokenArtifact where it is of a backend that is not there."""
    backend = _backend(folder, config)
    file = folder / (config.filename or backend.file)
    if file.is_dir():  # a folder named model.onnx, with the weights in files of their own
        file = file / backend.file
    if not file.is_file():
        raise BrokenArtifact(foreign(folder) or f"{folder.name} has no {config.filename or backend.file}")
    name = config.name or folder.parent.name or "model"
    device = DeviceTarget(backend.device)
    inside = file.relative_to(folder).as_posix()
    return Artifact(folder, Manifest(name, "1", backend.name, inside, ModelSpec((), ()), device=device), declared=False)


def labels(config: TritonConfig, folder: Path) -> tuple[str, ...]:
    """The labels of the first output that has a file of them; empty for none. Raises BrokenArtifact."""
    return read_labels(folder / config.label_files[0][1]) if config.label_files else ()


def _backend(folder: Path, config: TritonConfig) -> Backend:
    if config.platform in BACKENDS:
        return BACKENDS[config.platform]
    if config.platform:
        about = foreign(folder)
        raise BrokenArtifact(
            f"{CONFIG}: the backend {config.platform[:60]!r} cannot be run here, which has {', '.join(BACKENDS)}"
            + (f"; {about}" if about else "")
        )
    suffix = Path(config.filename).suffix
    for one in (ONNX, PLAN, OPENVINO):
        if suffix == Path(one.file).suffix or (not suffix and (folder / one.file).exists()):
            return one
    return ONNX
