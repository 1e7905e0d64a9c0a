"""Watched files: read again when they change, such as certificates and keys that another program renews."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import SlipwayError

log = logging.getLogger("slipway.files")

POLL_S = 1.0
"""Seconds between two looks."""

Stamp = tuple[int, int, int] | None


class WatchedFiles:
    """Files that belong together. ``read`` reads them, and raises an error of ours if they cannot be used."""

    def __init__(self, what: str, paths: Sequence[Path], read: Callable[[], None]) -> None:
        """``what`` names them in the log. They have been read already."""
        self._what = what
        self._paths = paths
        self._read = read
        self._seen = [stamp(path) for path in paths]

    def changed(self) -> bool:
        """Whether a file has changed since the last call. May block: not for the event loop."""
        seen, self._seen = self._seen, [stamp(path) for path in self._paths]
        return seen != self._seen

    def reread(self) -> None:
        """Read them again. What was read before stays in use if they cannot be used; the log says so."""
        try:
            self._read()
        except SlipwayError as error:
            log.error(
                "files changed and cannot be used; what was read before stays in use what=%s: %s", self._what, error
            )
        else:
            log.info("files read again what=%s", self._what)


def stamp(path: Path) -> Stamp:
    """Inode, size and time of the last change of a file; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


async def watch(groups: Sequence[WatchedFiles], poll_s: float = POLL_S) -> None:
    """Look after files until cancelled."""
    while groups:
        await asyncio.sleep(poll_s)
        for one in groups:
            if await asyncio.to_thread(one.changed):
                one.reread()
