"""Helpers of handlers: class names of the scores, and the exception with a status."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class PredictionException(Exception):
    """A response with this status and message."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code


def list_classes_from_module(module: ModuleType, parent_class: type | None = None) -> list[type]:
    """The classes that a module defines itself; with ``parent_class`` its subclasses alone."""
    return [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and (parent_class is None or issubclass(value, parent_class))
    ]


def load_label_mapping(mapping_file_path: str) -> dict[str, Any] | None:
    """``index_to_name.json``: class number to name. None where there is no such file. Raises ValueError."""
    path = Path(mapping_file_path)
    if not path.is_file():
        return None
    mapping = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise ValueError("index_to_name.json must hold one JSON object")
    names = mapping.get("object_type_names", mapping)
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    return {key: value[-1] if isinstance(value, list) else str(value) for key, value in names.items()}


def map_class_to_label(
    probs: Sequence[Sequence[float]],
    mapping: Mapping[str, str] | None = None,
    lbl_classes: Sequence[Sequence[int]] | None = None,
) -> list[dict[str, float]]:
    """For each row: the name of each class (its number without a mapping) to its probability."""
    rows = lbl_classes or [range(len(row)) for row in probs]
    return [
        {(mapping or {}).get(str(number), str(number)): score for number, score in zip(numbers, row, strict=True)}
        for numbers, row in zip(rows, probs, strict=True)
    ]
