"""Model archives of TorchServe (``.mar``): their manifest, and the inputs that their handlers get."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs

from ..errors import BrokenArtifact, MalformedInput
from .call import Call

SUFFIX = ".mar"
MANIFEST = "MAR-INF/MANIFEST.json"
MOST_BYTES = 1_000_000
"""More than any manifest or ``model-config.yaml`` has."""

BUILT_IN = {
    "image_classifier": "ImageClassifier",
    "image_segmenter": "ImageSegmenter",
    "object_detector": "ObjectDetector",
}
"""Handlers of TorchServe itself by name: the class of each in :data:`BUILT_IN_SCRIPT`."""

BUILT_IN_SCRIPT = Path(__file__).parent / "built_in" / "torchserve.py"
NOT_BUILT_IN = {
    "base_handler": "it gives the model what the client sends, which is no tensor",
    "text_classifier": "it needs torchtext, which is no longer made, and runs a pickle of the archive",
}
"""Handlers of TorchServe that are not here, and why."""

RUNTIMES = ("python", "python2", "python3")


@dataclass(frozen=True, slots=True)
class ArchiveManifest:
    """The manifest of an archive. ``module``: file name of the handler's module, ``attribute`` in it or empty.

    ``whole`` is the manifest as it is written, which handlers read. Names of files are empty where there is none.
    """

    name: str
    version: str
    module: str
    attribute: str
    requirements: str = ""
    config: str = ""
    whole: Mapping[str, Any] = field(default_factory=dict)


def read_manifest(text: bytes) -> ArchiveManifest:
    """Raises BrokenArtifact, naming the field, for a manifest that is wrong or cannot be honoured."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BrokenArtifact(f"{MANIFEST} is not JSON") from error
    model = body.get("model") if isinstance(body, dict) else None
    if not isinstance(model, dict):
        raise BrokenArtifact(f"{MANIFEST} must hold an object with the object 'model'")
    runtime = str(body.get("runtime") or "python").lower()
    if runtime not in RUNTIMES:
        raise BrokenArtifact(f"{MANIFEST}: the runtime {runtime[:40]!r} cannot be run here, only Python can")
    if model.get("envelope"):
        raise BrokenArtifact(f"{MANIFEST}: the service envelope {str(model['envelope'])[:40]!r} is not supported")
    handler, attribute = _handler(_text(model, "handler"))
    return ArchiveManifest(
        name=_text(model, "modelName") or "model",
        version=_text(model, "modelVersion") or "1.0",
        module=handler,
        attribute=attribute,
        requirements=_file(model, "requirementsFile"),
        config=_file(model, "configFile"),
        whole=body,
    )


def read_config(root: Path, manifest: ArchiveManifest) -> dict[str, Any]:
    """The content of ``model-config.yaml``; empty where the archive has none. Raises BrokenArtifact."""
    if not manifest.config:
        return {}
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError as error:
        raise BrokenArtifact(f"{manifest.config} needs the package PyYAML, which is not installed") from error
    try:
        with (root / manifest.config).open("rb") as file:
            body = yaml.safe_load(file.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BrokenArtifact(f"{manifest.config} cannot be read as YAML") from error
    if not isinstance(body, dict | None):
        raise BrokenArtifact(f"{manifest.config} must hold names and values")
    return body or {}


def archive_in(root: Path) -> ArchiveManifest:
    """The manifest of an extracted archive. Raises BrokenArtifact."""
    try:
        with (root / MANIFEST).open("rb") as file:
            return read_manifest(file.read(MOST_BYTES))
    except OSError as error:
        raise BrokenArtifact(f"{MANIFEST} cannot be read: {error.strerror}") from error


def inputs_of(call: Call) -> dict[str, Any]:
    """One request as a handler gets it: the fields of a form, else ``body``: decoded JSON, text, or bytes.

    Raises MalformedInput for a body that is not what its content type says.
    """
    kind = (call.content_type or "") if _content_type(call) else ""
    if kind == "multipart/form-data":
        return _form(call)
    if kind == "application/x-www-form-urlencoded":
        pairs = parse_qs(_text_of(call), keep_blank_values=True)
        return {name: values[-1] for name, values in pairs.items()}
    if kind == "application/json":
        try:
            return {"body": json.loads(call.body)}
        except (ValueError, RecursionError) as error:
            raise MalformedInput("the body is not JSON") from error
    return {"body": _text_of(call) if kind.startswith("text/") else call.body}


def _content_type(call: Call) -> bytes:
    """What the client sent: a request without a content type has bytes, whatever type others are taken for."""
    return next((value for name, value in call.headers if name.lower() == b"content-type"), b"")


def _text_of(call: Call) -> str:
    try:
        return call.body.decode(call.charset)
    except (LookupError, UnicodeDecodeError) as error:
        raise MalformedInput(f"the body is not text in {ascii(call.charset)[:40]}") from error


def _form(call: Call) -> dict[str, Any]:
    message = message_from_bytes(b"Content-Type: " + _content_type(call) + b"\r\n\r\n" + call.body, policy=policy.HTTP)
    if not message.is_multipart():
        raise MalformedInput("the body is not the form that its content type says")
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            raise MalformedInput("a part of the form has no name")
        fields[name] = part.get_payload(decode=True)
    return fields


def _handler(text: str) -> tuple[str, str]:
    """File name and attribute of ``handler.py``, ``handler`` or ``handler:entry``."""
    module, _, attribute = text.partition(":")
    module = module.removesuffix(".py")
    if not module or PurePosixPath(module).name != module or module in (".", "..") or "\0" in module:
        raise BrokenArtifact(f"{MANIFEST}: 'handler' must name a Python file of the archive, got {text[:60]!r}")
    return f"{module}.py", attribute


def _text(model: dict[str, Any], name: str) -> str:
    value = model.get(name)
    if value is not None and not isinstance(value, str):
        raise BrokenArtifact(f"{MANIFEST}: {name!r} must be text, got {repr(value)[:60]}")
    return value or ""


def _file(model: dict[str, Any], name: str) -> str:
    """A file name in the archive, whose files all lie at its top."""
    value = PurePosixPath(_text(model, name)).name
    if value == ".." or "\0" in value:
        raise BrokenArtifact(f"{MANIFEST}: {name!r} must name a file of the archive")
    return value
