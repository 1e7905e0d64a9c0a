"""Sent files: the model that a client sends with a load, as Triton's clients do, written to a folder of its own.

The parameter ``config`` is the model's configuration; each parameter ``file:PATH`` is one file as base64, at a path as
in a repository of Triton: ``1/model.onnx``.
"""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import MalformedInput, OutOfMemory
from ...models.layouts.triton import CONFIG, VERSION
from ...models.layouts.triton_json import as_text
from ...temporary_folder import SentFolder
from .load_parameters import CONFIGURATION, parsed_config, require_known

FILE = "file:"
MOST_FILES = 1_000
MOST_PARTS = 8
"""Folders of a path, with the file."""

PART = re.compile(r"[A-Za-z0-9_+@=,-][A-Za-z0-9_+@=,. -]{0,127}")
DISK_LEFT = 0.1
"""The share of the free disk that sent files leave."""


def are_sent(parameters: Mapping[str, Any]) -> bool:
    """Whether the parameters of a load have files."""
    return any(key.startswith(FILE) for key in parameters)


def write(parameters: Mapping[str, Any], name: str) -> SentFolder:
    """The files of the model ``name`` in a new folder, as in a repository of Triton. Blocks: not for the event loop.

    Raises MalformedInput, or OutOfMemory where the disk has no room; nothing is left then.
    """
    require_known([key for key in parameters if not key.startswith(FILE)])
    paths = {_path(key.removeprefix(FILE)): value for key, value in parameters.items() if key.startswith(FILE)}
    if CONFIGURATION not in parameters:
        raise MalformedInput('files need the parameter config too: the configuration of the model, or "{}"')
    config = parsed_config(parameters[CONFIGURATION])
    if config.get("name") not in (None, "", name):
        raise MalformedInput(f"config: the field 'name' must be {name!r}, the model that is loaded")
    if len(paths) > MOST_FILES:
        raise MalformedInput(f"{len(paths)} files are sent, at most {MOST_FILES} are taken")
    if not any(len(path.parts) > 1 and VERSION.fullmatch(path.parts[0]) for path in paths):
        raise MalformedInput("no file is in the folder of a version, such as file:1/model.onnx")
    folder = SentFolder()
    try:
        _write(folder.path, {PurePosixPath(CONFIG): as_text(config), **paths})
    except BaseException:
        folder.remove()
        raise
    return folder


def _write(folder: Path, files: Mapping[PurePosixPath, Any]) -> None:
    left = int(shutil.disk_usage(folder).free * (1 - DISK_LEFT))
    for path, value in files.items():
        content = value.encode() if path.name == CONFIG else _decoded(path, value)
        left -= len(content)
        if left < 0:
            raise OutOfMemory("the disk of the server has no room for these files")
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                file.write(content)
        except OSError as error:
            raise MalformedInput(f"the file {str(path)!r} cannot be written: {error.strerror}") from error


def _decoded(path: PurePosixPath, value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise MalformedInput(f"the parameter {FILE + str(path)!r} must be the content of the file as base64")


def _path(text: str) -> PurePosixPath:
    """A path below the folder of the model. Raises MalformedInput for any other, and for the configuration's own."""
    parts = text.split("/")
    if len(parts) > MOST_PARTS or not all(PART.fullmatch(part) for part in parts):
        raise MalformedInput(
            f"the parameter {(FILE + text)[:80]!r} is no path inside the folder of a model, such as file:1/model.onnx"
        )
    if parts[-1] == CONFIG:
        raise MalformedInput(f"{CONFIG} cannot be sent as a file; send the configuration in the parameter config")
    return PurePosixPath(text)
