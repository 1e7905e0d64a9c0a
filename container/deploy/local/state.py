"""The folder of one deployment: what is wanted, what its host process reports, its releases, and who runs.

Every file is replaced atomically, so a reader never sees a part of it, and an end at any moment leaves a whole one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IN_SERVICE, STARTING, FAILED = "InService", "Starting", "Failed"


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a deployment below ``root``."""

    root: Path

    @property
    def wanted(self) -> Path:
        """JSON: ``release``, ``previous``, ``attempt``, ``port`` and the container's settings."""
        return self.root / "wanted.json"

    @property
    def report(self) -> Path:
        """JSON of the host: ``status``, ``release``, ``url``, ``failed`` (attempt and reason)."""
        return self.root / "report.json"

    @property
    def log(self) -> Path:
        return self.root / "container.log"

    @property
    def lock(self) -> Path:
        """Locked by the host while it runs; it holds the number of its process."""
        return self.root / "lock"

    def release(self, digest: str) -> Path:
        """The folder of a release, whose model is ``model`` or ``model.tar.gz`` in it."""
        return self.root / "releases" / digest

    def releases(self) -> set[str]:
        folder = self.root / "releases"
        return {one.name for one in folder.iterdir() if not one.name.startswith(".")} if folder.is_dir() else set()


def read(path: Path) -> dict[str, Any]:
    """A JSON file; {} where there is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return document


def write(path: Path, document: dict[str, Any]) -> None:
    """Replace a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(document, indent=2), encoding="utf-8")
    partial.replace(path)


def copy(source: Path, target: Path) -> None:
    """Copy a model into a release folder, which appears when it is complete."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, partial / "model")
    else:
        shutil.copy(source, partial / "model.tar.gz")
    partial.rename(target)


def model_of(release: Path) -> Path:
    """The model folder or archive of a release."""
    folder = release / "model"
    return folder if folder.is_dir() else release / "model.tar.gz"


def running(folder: Folder) -> bool:
    """Whether a host holds the lock."""
    if not folder.lock.exists():
        return False
    with folder.lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked(folder: Folder) -> Iterator[bool]:
    """Hold the lock of the host. Yields False where another host holds it."""
    with folder.lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield True


def holder(folder: Folder) -> int | None:
    """The process that holds the lock; None where it has not said so yet."""
    text = folder.lock.read_text("utf-8")
    return int(text) if text.isdecimal() else None
