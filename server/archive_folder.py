"""The archive folder: where a model archive is extracted to; it is private, and removed when nobody needs it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path


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
