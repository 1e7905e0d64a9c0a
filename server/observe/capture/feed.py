"""The capture feed: a bounded queue between the event loop and the capture process.

The event loop appends what it takes to a chunk. A thread carries complete chunks to the process, and starts it again if
it ends. The queue is bounded in bytes; what does not fit is dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from marshal import dumps
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson

from .child import COUNTS, LENGTH
from .record import Taken

log = logging.getLogger("slipway.capture")

ROOT = Path(__file__).resolve().parents[3]
CHUNK_BYTES = 1 << 19
"""Records are carried in chunks of about this size: each takes the interpreter from the event loop for a moment, and a
larger one for longer."""
PAUSE_S = 0.05
"""How long a record may wait for its chunk to be complete."""
PIPE_BYTES = 1 << 20
RECORD_BYTES = 64
"""Memory of a record besides its content."""
RESTART_S = 5.0
CLOSE_S = 5.0
"""How long the end of the server waits for the files to be complete."""
LIST, COUNT = b"[", struct.Struct("<i")
MARSHAL_VERSION = 2
"""Without references between objects, which take longer to write."""


class Feed:
    """Takes records on the event loop and carries them to the capture process."""

    def __init__(
        self, options: Mapping[str, Any], queue_bytes: int, later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        """``options``: ``to``, ``mode``, ``redact``, ``body_bytes``, ``disk_bytes``, as the process gets them.

        ``later`` calls on the event loop after some seconds.
        """
        self.dropped: Counter[str] = Counter()
        self._options = dict(options)
        self._queue_bytes = queue_bytes
        self._later = later
        self.body_bytes = int(options["body_bytes"])
        self._chunk: list[bytes] = []  # bytes, because tuples that wait would burden the garbage collector
        self._size = 0  # of the chunk
        self._timed = False  # it will be handed over
        self._room = queue_bytes  # for the chunk, beside those that were handed over
        self._chunks: SimpleQueue[tuple[list[bytes], int] | None] = SimpleQueue()
        self._bytes_in = self._bytes_out = 0  # of chunks; each is changed by one thread only
        self._lost = 0  # records that the thread could not carry
        self._shared, path = tempfile.mkstemp(prefix="slipway-capture-")
        os.unlink(path)  # only its descriptor is needed
        os.ftruncate(self._shared, 8 * len(COUNTS))
        self._counts = memoryview(mmap.mmap(self._shared, 8 * len(COUNTS))).cast("q")
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slipway-capture", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, taken: Taken) -> None:
        """Queue one record, or drop it. Called on the event loop; raises nothing and never waits."""
        most = self.body_bytes
        size = self._size
        if len(taken[4]) > most or len(taken[6]) > most:
            self.dropped["too_large"] += 1
        elif size > self._room:
            self.dropped["queue_full"] += 1
        else:
            self._chunk.append(record := dumps(taken, MARSHAL_VERSION))
            self._size = more = size + len(record) + RECORD_BYTES
            if not self._timed:
                self._timed = True
                self._later(PAUSE_S, self._expire)
            if more > CHUNK_BYTES:
                self._hand_over()

    def _expire(self) -> None:
        self._timed = False
        self._hand_over()

    def _hand_over(self) -> None:
        """Give the chunk to the thread. Called on the event loop, or at the end."""
        if self._size:
            self._bytes_in += self._size
            self._chunks.put((self._chunk, self._size))
            self._chunk, self._size = [], 0
        self._room = max(self._queue_bytes - (self._bytes_in - self._bytes_out), 0)

    @property
    def waiting_bytes(self) -> int:
        """Bytes in the queue."""
        return self._bytes_in - self._bytes_out + self._size

    def counts(self) -> dict[str, int]:
        """The counts of the process, by the names of ``child.COUNTS``."""
        return dict(zip(COUNTS, self._counts, strict=True))

    def close(self) -> None:
        """Carry the rest and end the process. Waits for some seconds at most."""
        self._closing.set()
        self._hand_over()
        self._chunks.put(None)
        self._thread.join(CLOSE_S)
        process = self._process
        if process is None:
            return
        try:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def families(self) -> Iterator[Any]:
        """The metric families of data capture."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts = self.counts()
        yield CounterMetricFamily("slipway_capture_records", "Captured requests that were written", counts["written"])
        yield CounterMetricFamily("slipway_capture_bytes", "Bytes of captured requests", counts["written_bytes"])
        dropped = CounterMetricFamily(
            "slipway_capture_dropped",
            "Sampled requests that were not captured: queue_full, too_large, disk_full or failed",
            labels=["reason"],
        )
        failed = counts["failed"] + self._lost
        reasons = {**self.dropped, "disk_full": counts["disk_full"], "failed": failed}
        for reason in ("queue_full", "too_large", "disk_full", "failed"):
            dropped.add_metric([reason], reasons.get(reason, 0))
        yield dropped
        yield CounterMetricFamily(
            "slipway_capture_withheld",
            "Captured bodies left empty: not redactable or not expandable",
            counts["withheld"],
        )
        yield CounterMetricFamily(
            "slipway_capture_deleted_files", "Oldest capture files deleted at the disk bound", counts["deleted_files"]
        )
        yield CounterMetricFamily(
            "slipway_capture_failed_uploads", "Uploads of capture files that failed", counts["failed_uploads"]
        )
        yield GaugeMetricFamily("slipway_capture_queue_bytes", "Bytes that wait to be captured", self.waiting_bytes)

    # The thread

    def _run(self) -> None:
        for chunk, size in iter(self._chunks.get, None):
            try:
                self._carry(chunk, size - RECORD_BYTES * len(chunk))
            except Exception:
                log.exception("carrying captured requests failed")
            self._bytes_out += size
        self._end_pipe()

    def _carry(self, chunk: list[bytes], size: int) -> None:
        """Give one chunk of ``size`` bytes to the process. A process that has ended loses the chunk and is started
        again, later."""
        # A list in marshal's format is its count and its items. All are written at once: behind each write the thread
        # takes the interpreter from the event loop again.
        head = LENGTH.pack(len(LIST) + COUNT.size + size) + LIST + COUNT.pack(len(chunk))
        try:
            _write(self._pipe(), b"".join((head, *chunk)))
        except OSError:
            self._lost += len(chunk)
            self._end_pipe()
            process = self._process
            code = process.wait() if process is not None else None
            log.warning("the capture process ended, it is started again code=%s", code)
            self._process = None
            self._closing.wait(RESTART_S)

    def _pipe(self) -> int:
        """The descriptor that the process reads. Starts the process if there is none. Raises OSError."""
        if self._process is None:
            options = orjson.dumps({**self._options, "counts": self._shared}).decode()
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and our module
                [sys.executable, "-m", "server.observe.capture.child", options],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                pass_fds=(self._shared,),
            )
            assert self._process.stdin is not None
            with contextlib.suppress(OSError, AttributeError):
                import fcntl

                fcntl.fcntl(self._process.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    def _end_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it; the interpreter is free meanwhile. Raises OSError if the process has ended."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
