"""Capture files: ``MODEL/AllTraffic/yyyy/mm/dd/hh/MM-SS-mmm-UUID.jsonl`` below a folder, bounded in bytes.

The names are those of SageMaker's data capture, with the model in the place of the endpoint.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

VARIANT = "AllTraffic"
FILE_BYTES = 16_000_000
FILE_S = 60.0
"""A file is complete at this size or age."""
MOST_OPEN = 64
LEAST_FREE = 0.05
"""Share of the disk that stays free."""
OURS = re.compile(r"(?:^|/)\d{4}/\d\d/\d\d/\d\d/[^/]+\.jsonl$")


class DiskFull(Exception):
    """Writing would leave too little of the disk free."""


@dataclass(slots=True)
class OpenFile:
    """A file that lines are added to; ``hour`` is its folder."""

    path: Path
    hour: str
    stream: BinaryIO
    opened_s: float
    size: int = 0


class Files:
    """Writes lines into files. ``complete`` gets each file that is closed. One thread uses it."""

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        complete: Callable[[Path], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``max_bytes``: of all capture files below ``root``; the oldest are deleted beyond it. ``clock`` gives seconds
        of the Unix epoch."""
        self.root = root
        self.deleted = 0
        self._max_bytes = max_bytes
        self._complete = complete
        self._clock = clock
        self._open: OrderedDict[str, OpenFile] = OrderedDict()
        self._file_bytes = max(min(FILE_BYTES, max_bytes // 4), 1)
        self._until_bound = 0  # bytes that may be written before the folder is measured again

    def write(self, model: str, time_s: float, lines: bytes | bytearray) -> None:
        """Add lines of one model. Raises DiskFull, or OSError; nothing of them is kept then."""
        if len(lines) > self._until_bound:
            self._bound()
        one = self._file(model, time.strftime("%Y/%m/%d/%H", time.gmtime(time_s)))
        try:
            one.stream.write(lines)
        except OSError:
            self._close(model)
            raise
        one.size += len(lines)
        self._until_bound -= len(lines)
        if one.size >= self._file_bytes:
            self._close(model)

    def tick(self) -> None:
        """Complete the files that are old; called about once a second."""
        oldest_s = self._clock() - FILE_S
        for model in [model for model, one in self._open.items() if one.opened_s <= oldest_s]:
            self._close(model)

    def close(self) -> None:
        for model in list(self._open):
            self._close(model)

    def _file(self, model: str, hour: str) -> OpenFile:
        one = self._open.get(model)
        if one is not None and one.hour == hour:
            self._open.move_to_end(model)
            return one
        if one is not None:
            self._close(model)
        if len(self._open) >= MOST_OPEN:
            self._close(next(iter(self._open)))
        folder = self.root / safe(model) / VARIANT / hour
        folder.mkdir(parents=True, exist_ok=True)
        now_s = self._clock()
        stamp = time.strftime("%M-%S", time.gmtime(now_s)) + f"-{int(now_s * 1000) % 1000:03d}"
        path = folder / f"{stamp}-{uuid.uuid4()}.jsonl"
        one = self._open[model] = OpenFile(path, hour, path.open("ab", buffering=0), now_s)
        return one

    def _close(self, model: str) -> None:
        one = self._open.pop(model)
        one.stream.close()
        self._complete(one.path)

    def _bound(self) -> None:
        """Delete the oldest files beyond the bound. Raises DiskFull."""
        self.root.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self.root)
        if disk.f_bavail < LEAST_FREE * disk.f_blocks:
            raise DiskFull
        in_use = {one.path for one in self._open.values()}
        found = sorted(
            (stat.st_mtime, path, stat.st_size) for path, stat in capture_files(self.root) if path not in in_use
        )
        total = sum(size for _, _, size in found) + sum(one.size for one in self._open.values())
        room = self._file_bytes
        for _, path, size in found:
            if total + room <= self._max_bytes:
                break
            with contextlib.suppress(FileNotFoundError):  # another process of the server deleted it
                path.unlink()
                self.deleted += 1
            total -= size
        self._until_bound = room


def capture_files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The capture files below a folder, by their names."""
    for path in root.rglob("*.jsonl"):
        if OURS.search(path.relative_to(root).as_posix()):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()


def safe(name: str) -> str:
    """A name as one part of a path."""
    text = quote(name or "unknown", safe="", errors="replace")[:200]
    return text.replace(".", "%2E") if not text.strip(".") else text
