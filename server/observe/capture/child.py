"""The capture process: reads what the server took from a pipe, and writes it as files until the pipe ends.

``python -m server.observe.capture.child OPTIONS``, started by ``feed``; OPTIONS is JSON.
"""

from __future__ import annotations

import contextlib
import logging
import marshal
import mmap
import os
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import orjson

from .files import DiskFull, Files
from .record import Encoder, Taken
from .redaction import redaction_of
from .upload import Uploads, bucket_and_prefix, s3_client

log = logging.getLogger("slipway.capture")

COUNTS = ("written", "written_bytes", "failed", "disk_full", "withheld", "deleted_files", "failed_uploads")
"""What the process counts, in the order of the shared memory: 64-bit integers."""
LENGTH = struct.Struct("<I")
TICK_S = 1.0
NICENESS = 19
"""The server has precedence on cores that both use."""


class Child:
    """Encodes and writes what was taken, and counts it in memory that the server reads."""

    def __init__(self, encoder: Encoder, files: Files, uploads: Uploads | None, counts: memoryview) -> None:
        """``counts``: 64-bit integers, as :data:`COUNTS` lists them."""
        self._encoder = encoder
        self._files = files
        self._uploads = uploads
        self._counts = counts
        self._base = list(counts)  # of processes before this one
        self._told = False

    def write(self, chunk: Sequence[Taken]) -> None:
        """Write one chunk of records. A failure loses the records of one model, and is counted."""
        for model, group in groupby(chunk, lambda taken: taken[1]):
            lines, count, failed = bytearray(), 0, 0  # a list would keep the unused end of each line's memory
            for taken in group:
                try:
                    lines += self._encoder.line(taken)
                    count += 1
                except Exception as error:  # noqa: BLE001 - counted; the first is logged
                    failed += 1
                    self._tell("encoding a captured request failed", error)
            self._count("failed", failed)
            try:
                if count:
                    self._files.write(model, chunk[0][0] / 1e9, lines)
            except DiskFull:
                self._count("disk_full", count)
                self._tell("capturing stops while less than a twentieth of the disk is free", None)
            except OSError as error:
                self._count("failed", count)
                self._tell("writing captured requests failed", error)
            else:
                self._count("written", count)
                self._count("written_bytes", len(lines))

    def tick(self) -> None:
        """Complete old files and upload; called about once a second."""
        self._files.tick()
        self._run_uploads()

    def close(self) -> None:
        """Complete and upload all files."""
        self._files.close()
        self._run_uploads()

    def _run_uploads(self) -> None:
        if self._uploads is not None:
            self._uploads.run()
            self._set("failed_uploads", self._uploads.failed)
        self._set("withheld", self._encoder.withheld)
        self._set("deleted_files", self._files.deleted)

    def _count(self, name: str, more: int) -> None:
        self._counts[COUNTS.index(name)] += more

    def _set(self, name: str, value: int) -> None:
        at = COUNTS.index(name)
        self._counts[at] = self._base[at] + value

    def _tell(self, what: str, error: BaseException | None) -> None:
        """Log the first failure; the counts have the others."""
        if not self._told:
            self._told = True
            log.warning("%s%s", what, "" if error is None else f": {type(error).__name__}: {error}")


def run(child: Child, pipe: BinaryIO) -> None:
    """Write all chunks of the pipe until it ends."""
    due = time.monotonic() + TICK_S
    while True:
        ready, _, _ = select.select([pipe], [], [], max(due - time.monotonic(), 0.0))
        if ready:
            head = _read(pipe, LENGTH.size)
            body = _read(pipe, LENGTH.unpack(head)[0]) if head else b""
            if not body:
                return
            child.write(marshal.loads(body))  # noqa: S302 - written by the server, over a pipe of its own
        if time.monotonic() >= due:
            child.tick()
            due = time.monotonic() + TICK_S


def _read(pipe: BinaryIO, size: int) -> bytes:
    """Exactly so many bytes; empty if the pipe ends before."""
    parts = []
    while size:
        part = os.read(pipe.fileno(), min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def main(argv: Sequence[str]) -> int:
    """Run the process; the only argument is the JSON object that ``feed`` gives, with the descriptor of the counts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole group; the pipe's end ends it
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    with contextlib.suppress(AttributeError, OSError):  # not every system has it; a wakening server need not wait then
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    options = orjson.loads(argv[0])
    counts = memoryview(mmap.mmap(options["counts"], 8 * len(COUNTS))).cast("q")
    to, uploads = options["to"], None
    if to.startswith("s3://"):
        with tempfile.TemporaryDirectory(prefix="slipway-capture-") as spool:
            uploads = Uploads(*bucket_and_prefix(to), Path(spool), s3_client)
            _serve(options, Path(spool), uploads, counts)
    else:
        _serve(options, Path(to), None, counts)
    return 0


def _serve(options: dict[str, object], root: Path, uploads: Uploads | None, counts: memoryview) -> None:
    redaction, most = redaction_of(str(options["redact"])), int(str(options["body_bytes"]))
    encoder = Encoder(str(options["mode"]), redaction, most)
    complete = uploads.add if uploads is not None else lambda _: None
    files = Files(root, int(str(options["disk_bytes"])), complete)
    child = Child(encoder, files, uploads, counts)
    run(child, sys.stdin.buffer)
    child.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
