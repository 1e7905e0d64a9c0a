"""Folders of Optimum and of the Hugging Face Hub: ``config.json`` beside the model or beside ``onnx/``."""

from __future__ import annotations

from pathlib import Path

from ...errors import BrokenArtifact
from .small_files import read_object

CONFIG = "config.json"


def labels(folder: Path) -> tuple[str, ...]:
    """The class names of ``id2label``, in the order of their numbers; empty where the folder says none.

    The file belongs to the Hub's tools, not to this server: one that cannot be read says nothing.
    """
    for path in (folder / CONFIG, folder / "onnx" / CONFIG):
        if path.is_file():
            try:
                names = read_object(path).get("id2label")
            except BrokenArtifact:
                return ()
            return _ordered(names) if isinstance(names, dict) else ()
    return ()


def _ordered(names: dict[str, object]) -> tuple[str, ...]:
    """Names whose numbers are 0, 1, 2, ... without a gap; none otherwise."""
    ordered = [names.get(str(number)) for number in range(len(names))]
    return tuple(map(str, ordered)) if None not in ordered else ()
