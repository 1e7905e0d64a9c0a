"""Folders of MLServer: ``model-settings.json`` beside the model's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...declaration import Declaration, DeclaredTensor
from ...errors import BrokenArtifact
from ...tensors import TensorSpec
from .foreign import foreign
from .small_files import read_object

SETTINGS = "model-settings.json"

HONOURED = ("name", "implementation", "parameters", "inputs", "outputs", "max_batch_size", "max_batch_time")
PARAMETERS = ("uri", "version")
SILENT = ("platform", "versions", "$schema", "content_type")
"""Fields that tell the reader about the model and change nothing."""

MOST_DELAY_S = 3600.0


@dataclass(frozen=True, slots=True)
class MlServerSettings:
    """The settings of one model. ``uri``: the model's file or folder inside the folder of the settings; empty: that."""

    name: str
    version: str
    implementation: str
    uri: str
    declaration: Declaration


def is_settings(folder: Path) -> bool:
    """Whether a folder has such settings."""
    return (folder / SETTINGS).is_file()


def read_settings(folder: Path) -> MlServerSettings:
    """Raises BrokenArtifact, naming the field, for settings that are wrong or cannot be honoured."""
    try:
        return _settings(read_object(folder / SETTINGS), folder.resolve().name)
    except BrokenArtifact as error:
        text = str(error)
        raise BrokenArtifact(text if SETTINGS in text else f"{SETTINGS}: {text}") from error


def model_path(folder: Path, settings: MlServerSettings) -> Path:
    """The model's file or folder. Raises BrokenArtifact for a runtime that cannot be run here."""
    path = folder / settings.uri if settings.uri else folder
    module = settings.implementation.partition(".")[0]
    if module and (folder / f"{module}.py").is_file():
        raise BrokenArtifact(
            f"{SETTINGS}: the implementation {settings.implementation[:60]!r} is code of its own, which is not run "
            "here: serve it as a script, code/inference.py"
        )
    if "onnx" not in settings.implementation.lower() and settings.implementation:
        about = foreign(folder) or "python -m optimize MODEL --output DIR makes a servable artifact of its model"
        raise BrokenArtifact(
            f"{SETTINGS}: the implementation {settings.implementation[:60]!r} cannot be run here; {about}"
        )
    if not path.exists():
        raise BrokenArtifact(f"{SETTINGS}: there is no {settings.uri[:80]!r} in the folder of the model")
    if path.is_file() and path.suffix != ".onnx":
        raise BrokenArtifact(f"{SETTINGS}: {path.name} is not an .onnx file; {foreign(folder)}".rstrip("; "))
    return path


def _settings(body: dict[str, Any], folder_name: str) -> MlServerSettings:
    parameters = _typed(body, "parameters", dict, {})
    ignored = [name for name in body if name not in (*HONOURED, *SILENT)]
    ignored += [f"parameters.{name}" for name in parameters if name not in (*PARAMETERS, *SILENT)]
    most = _typed(body, "max_batch_size", int, 0)
    delay_s = _typed(body, "max_batch_time", (int, float), 0)
    if most < 0 or not 0 <= delay_s <= MOST_DELAY_S:
        raise BrokenArtifact(f"max_batch_size must be 0 or more, max_batch_time from 0 to {MOST_DELAY_S:.0f} seconds")
    declaration = Declaration(
        file=SETTINGS,
        batch_sizes=(most,) if most > 1 else (),
        max_queue_delay_us=int(delay_s * 1e6) if most > 1 else 0,
        inputs=_tensors(body, "inputs", ignored),
        outputs=_tensors(body, "outputs", ignored),
        parameters={name: str(value) for name, value in _typed(parameters, "extra", dict, {}).items()},
        ignored=tuple(ignored),
    )
    return MlServerSettings(
        name=_typed(body, "name", str, "") or folder_name,
        version=_typed(parameters, "version", str, "") or "1",
        implementation=_typed(body, "implementation", str, ""),
        uri=_inside(_typed(parameters, "uri", str, "")),
        declaration=declaration,
    )


def _tensors(body: dict[str, Any], kind: str, ignored: list[str]) -> tuple[DeclaredTensor, ...]:
    found = []
    for at, row in enumerate(_typed(body, kind, list, [])):
        spec = TensorSpec.from_json(row)
        content = (row.get("parameters") or {}).get("content_type") if isinstance(row.get("parameters"), dict) else None
        if content not in (None, "np"):
            ignored.append(f"{kind}[{at}].parameters.content_type")
        found.append(DeclaredTensor(spec.name, spec.dtype, spec.shape))
    return tuple(found)


def _typed(body: dict[str, Any], name: str, kind: Any, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {dict: "an object", list: "a list", str: "text", int: "a whole number"}
        raise BrokenArtifact(f"{name} must be {words.get(kind, 'a number')}, got {repr(value)[:60]}")
    return value


def _inside(uri: str) -> str:
    """A path inside the folder. Raises BrokenArtifact for one that leaves it, and for a URI of another place."""
    path = PurePosixPath(uri)
    if "://" in uri or path.is_absolute() or ".." in path.parts or "\0" in uri:
        raise BrokenArtifact(f"parameters.uri must be a path inside the folder of the model, got {uri[:80]!r}")
    return "" if uri in (".", "./") else uri
