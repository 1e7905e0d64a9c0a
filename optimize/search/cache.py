"""The search cache: results of passes and runs in a folder, keyed by the digest of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from server.artifact import digest
from server.tensors import Array

from ..passes import PassRecord

RECORD = "record.json"
GRAPHS = ("float_graph", "base", "twin", "graph", "forecast")
"""The fields of a record that name a file or None."""


class SearchCache:
    """A folder of cached results. Entries are complete: each is written to a temporary name and then renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def record(self, ingredients: Mapping[str, Any], make: Callable[[Path], PassRecord]) -> PassRecord:
        """The record of a pass with these ingredients; ``make(directory)`` runs the pass if there is none.

        It also runs again when a file that the pass had read by itself, such as training data, has changed. Raises the
        errors of ``make``. Failures are not cached, because another limit may prevent them.
        """
        directory = self.folder / key(ingredients)
        if not _fresh(directory / RECORD):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            record = make(directory)
            partial = directory / f"{RECORD}.partial"
            partial.write_text(json.dumps(_to_json(record)), encoding="utf-8")
            partial.replace(directory / RECORD)
        return _from_json(json.loads((directory / RECORD).read_text(encoding="utf-8")))

    def arrays(self, ingredients: Mapping[str, Any], make: Callable[[], dict[str, Array]]) -> dict[str, Array]:
        """The same for arrays by name."""
        path = self.folder / f"{key(ingredients)}.npz"
        if not path.is_file():
            arrays = make()
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **arrays)  # type: ignore[arg-type]  # the stub mixes up arrays and allow_pickle
            partial.replace(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def key(ingredients: Mapping[str, Any]) -> str:
    """SHA-256 over names and values (anything that JSON can write), whatever their order."""
    text = json.dumps(ingredients, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _to_json(record: PassRecord) -> dict[str, Any]:
    return {
        "path": str(record.path),
        "applied": dict(record.applied),
        "said": list(record.said),
        "files": dict(record.files),
        **{name: str(getattr(record, name)) if getattr(record, name) else None for name in GRAPHS},
    }


def _fresh(path: Path) -> bool:
    """Whether there is a record, and the files that its pass had read by itself have not changed."""
    if not path.is_file():
        return False
    files: dict[str, str] = json.loads(path.read_text(encoding="utf-8")).get("files", {})
    return all(Path(name).is_file() and digest(Path(name)) == sha256 for name, sha256 in files.items())


def _from_json(row: dict[str, Any]) -> PassRecord:
    graphs = {name: Path(row[name]) if row.get(name) else None for name in GRAPHS}
    return PassRecord(Path(row["path"]), row["applied"], tuple(row["said"]), files=row.get("files", {}), **graphs)
