"""Temporary folders: of extracted archives and of files that clients send; removed when nobody needs them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Protocol


class TemporaryFolder(Protocol):
    """A folder that one model needs until it is unloaded."""

    @property
    def path(self) -> Path: ...

    def remove(self) -> None:
        """Give the folder up; again has no effect."""
        ...


class ArchiveFolder:
    """A new folder in the temporary folder that only this user can read.

    It is removed by :meth:`remove`, when the last reference to this object is dropped, or when the process exits.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="slipway-archive-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder with its content; again has no effect."""
        self._remove()


class SentFolder:
    """A folder of files that a client has sent, which several models and processes hold: the last one removes it.

    Each holder has a shared lock, which the operating system takes back from a process that is killed.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Hold the folder at ``path``; None: a new one that only this user can read. Raises FileNotFoundError."""
        self.path = path or Path(tempfile.mkdtemp(prefix="slipway-sent-"))
        lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
        except OSError:
            os.close(lock)
            raise
        self._let_go = weakref.finalize(self, _let_go, lock, self.path)

    def remove(self) -> None:
        """Give the folder up, and remove it if nobody else holds it; again has no effect."""
        self._let_go()


def _let_go(lock: int, path: Path) -> None:
    """Trade the shared lock for the only one. Of several holders that do so at the same time the last one gets it: the
    kernel drops the shared lock also where it refuses the other."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    else:
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
