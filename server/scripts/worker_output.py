"""The output of a worker process: read by a thread of the server, and passed line by line to the log.

The reader of the server's log may stall. A worker that wrote to it directly would stall with it; the log drops and
counts lines instead.
"""

from __future__ import annotations

import logging
import threading
from typing import BinaryIO

log = logging.getLogger("slipway.worker")
log.setLevel(logging.DEBUG)  # the worker has chosen by level already

LONGEST_LINE = 65_536
"""Bytes of a line that are passed on together; a longer line is passed in parts."""

VERBATIM = {"verbatim": True}
"""The mark of a record that the log writes as it is: the worker has added time and level."""


class WorkerOutput:
    """Passes on what is read from a pipe until its other end is closed, by the worker and all that it has started."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._thread = threading.Thread(target=self._pass_on, name="slipway-worker-output", daemon=True)
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Wait for the last lines, for a bounded time."""
        self._thread.join(timeout_s)

    def _pass_on(self) -> None:
        with self._pipe as pipe:
            while line := pipe.readline(LONGEST_LINE):
                log.info("%s", line.decode(errors="backslashreplace").removesuffix("\n"), extra=VERBATIM)
