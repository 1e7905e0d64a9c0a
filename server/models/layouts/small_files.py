"""Small files beside a model: settings and labels, read within a bound. Blocking file access."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import BrokenArtifact

MOST_BYTES = 4_000_000
"""More than any settings or labels have; the labels of 21,000 classes take half a megabyte."""


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, without a byte order mark. Raises BrokenArtifact, naming the file."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BrokenArtifact(f"cannot read {path.name}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    if len(data) > MOST_BYTES:
        raise BrokenArtifact(f"{path.name} has more than {MOST_BYTES} bytes")
    return text


def read_json(path: Path) -> Any:
    """The JSON document in a file. Raises BrokenArtifact, naming the file."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BrokenArtifact(f"{path.name} is not JSON: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises BrokenArtifact, naming the file."""
    body = read_json(path)
    if not isinstance(body, dict):
        raise BrokenArtifact(f"{path.name} must hold one JSON object")
    return body


def read_labels(path: Path) -> tuple[str, ...]:
    """One label a line; empty lines count, except at the end."""
    return tuple(read_text(path).rstrip("\r\n").splitlines())
