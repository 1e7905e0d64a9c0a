"""The folder of one deployment: the wanted state, the report and the lock of its host process, and its releases.

Every file is replaced atomically, so a reader never sees a part of it, and an end at any moment leaves a whole one.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IN_SERVICE, STARTING, FAILED = "InService", "Starting", "Failed"
LABEL = "slipway.deployment"
"""Label of the containers of a deployment; its value is the folder."""
SETTINGS = "settings.json"
TRIES, TRY_S = 40, 0.05
"""For the lock of the host, which :func:`running` holds for an instant."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a deployment below ``root``."""

    root: Path

    @property
    def wanted(self) -> Path:
        """JSON: the settings of the release, ``instances``, ``port``, ``previous``, ``candidate`` and ``attempt``."""
        return self.root / "wanted.json"

    @property
    def before(self) -> Path:
        """JSON: the wanted state before, to which a deployment that fails returns."""
        return self.root / "before.json"

    @property
    def report(self) -> Path:
        """JSON of the host: ``status``, ``attempt``, ``release``, ``url``, ``server``, ``failed`` (attempt, reason)."""
        return self.root / "report.json"

    @property
    def log(self) -> Path:
        return self.root / "container.log"

    @property
    def lock(self) -> Path:
        """Locked by the host while it runs; it holds the number of its process."""
        return self.root / "lock"

    @property
    def workspace(self) -> Path:
        """Unpacked archives of the host that runs. The next host empties it."""
        return self.root / "workspace"

    @property
    def objects(self) -> Path:
        """The objects of asynchronous inference, of all deployments: s3://BUCKET/KEY is BUCKET/KEY below it."""
        return self.root.parents[1] / "s3"

    @property
    def label(self) -> str:
        return f"{LABEL}={self.root}"

    def release(self, digest: str) -> Path:
        """The folder of a release, whose model is ``model`` or ``model.tar.gz`` in it."""
        return self.root / "releases" / digest

    def releases(self) -> set[str]:
        folder = self.root / "releases"
        return {one.name for one in folder.iterdir() if not one.name.startswith(".")} if folder.is_dir() else set()

    def settings(self, digest: str) -> dict[str, Any]:
        """The settings that a release was made with; {} where there is none."""
        return read(self.release(digest) / SETTINGS)


def has_images(folder: Folder) -> bool:
    """Whether a release of this deployment is served by a container."""
    every = [read(folder.wanted), read(folder.before), *map(folder.settings, folder.releases())]
    return any(one.get("image") for one in every)


def read(path: Path) -> dict[str, Any]:
    """A JSON file; {} where there is none."""
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return document


def write(path: Path, document: dict[str, Any]) -> None:
    """Replace a JSON file. Each file has one writer, so that a part which a kill left is written over."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=2), encoding="utf-8")
    partial.replace(path)


def copy(source: Path, target: Path) -> None:
    """Copy a model into a new folder, which appears when it is complete."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if source.is_dir():
        shutil.copytree(source, partial / "model")
    else:
        shutil.copy(source, partial / "model.tar.gz")
    partial.rename(target)


def tidy(folder: Folder) -> None:
    """Remove what a copy that was killed left. For the command that changes the folder."""
    for part in (folder.root / "releases").glob(".*"):
        shutil.rmtree(part)


def put_release(folder: Folder, settings: dict[str, Any]) -> None:
    """Copy the model of a release, with its settings."""
    target = folder.release(settings["release"])
    source = Path(settings["model"])
    part = target.with_name(f".{target.name}.settled")
    copy(source, part)
    write(part / SETTINGS, settings)
    part.rename(target)


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
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def locked(folder: Folder) -> Iterator[bool]:
    """Hold the lock of the host. Yields False where another host holds it."""
    with folder.lock.open("a") as file:
        if not _taken(file.fileno()):
            yield False
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield True


def _taken(descriptor: int) -> bool:
    for left in reversed(range(TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(TRY_S if left else 0)
        else:
            return True
    return False


@contextmanager
def changing(folder: Folder) -> Iterator[bool]:
    """Make the folder, and hold it for a command that changes it. Yields False where another command holds it."""
    while True:
        folder.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.root, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            if _is_at(descriptor, folder.root):  # else another command has removed it meanwhile
                yield True
                return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def holder(folder: Folder) -> int | None:
    """The process that holds the lock; None where it has not said so yet."""
    text = folder.lock.read_text("utf-8")
    return int(text) if text.isdecimal() else None
