"""The watched folder: the newest model that has arrived completely, by the digest of its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from .errors import UpdateError

PART_BYTES = 1 << 20
UNFINISHED = (".part", ".partial", ".tmp", ".crdownload")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A model in the folder: its path, and the SHA-256 of its content."""

    path: Path
    digest: str


@dataclass(slots=True)
class Folder:
    """A watched folder. Hidden entries, and those that end as unfinished downloads do, are ignored."""

    root: Path
    _seen: dict[Path, tuple[tuple[str, int, int], ...]] = field(default_factory=dict)
    _digests: dict[tuple[Path, tuple[tuple[str, int, int], ...]], str] = field(default_factory=dict)

    def look(self) -> Arrival | None:
        """The newest model that has not changed since the last look; None if there is none.

        Raises UpdateError if the folder cannot be read.
        """
        if not self.root.is_dir():
            raise UpdateError(f"--watch {self.root} is no folder")
        now = {path: _state(path) for path in self.root.iterdir() if _counts(path)}
        now = {path: state for path, state in now.items() if state}
        settled = [path for path, state in now.items() if self._seen.get(path) == state]
        self._seen = now
        if not settled:
            return None
        path = max(settled, key=lambda one: (max(modified for _, _, modified in now[one]), one.name))
        key = path, now[path]
        if key not in self._digests:
            self._digests = {key: digest(path)}
        return Arrival(path, self._digests[key])


def _counts(path: Path) -> bool:
    return not path.name.startswith(".") and not path.name.endswith(UNFINISHED)


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """(name, size, time) of all files; empty if one is unfinished or has gone."""
    try:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        if any(one.name.endswith(UNFINISHED) for one in files):
            return ()
        return tuple((one.relative_to(path).as_posix(), (s := one.stat()).st_size, s.st_mtime_ns) for one in files)
    except OSError:
        return ()


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of a folder's files."""
    total = hashlib.sha256()
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    for one in files:
        total.update(one.relative_to(path).as_posix().encode() + b"\0")
        with one.open("rb") as stream:
            while part := stream.read(PART_BYTES):
                total.update(part)
        total.update(b"\0")
    return total.hexdigest()
