"""The conversion process as the server sees it: started by the first call, restarted after a crash, ended when idle."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BodyTooLarge, DeadlineExceeded, OutOfMemory, SlipwayError
from ..ragged import size_of
from .message import Closed, receive, send

log = logging.getLogger("slipway.conversion")

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = """
import os, sys
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, sys.argv[2])
from server.conversion.child import main
sys.exit(main(int(sys.argv[1])))
"""

TIMES = 32
"""The last resort: memory that a conversion may take, as a multiple of the larger of body and ``LEAST_BYTES``. The
codecs refuse sooner, by what they compute from the text."""

LEAST_BYTES = 32_000_000

TIMEOUT_S = 120.0
"""Time that one conversion may take. The largest bodies take some seconds."""

KILLED_FOR_MEMORY = -signal.SIGKILL

NATIVE_ENDS = (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)
"""Ends of a process by a library that asked for memory, got none, and did not look."""


class ConversionProcess:
    """One process that makes one call at a time. One thread at a time may use it."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._end: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The id of the process; None while there is none."""
        return None if self._process is None else self._process.pid

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of ``function(*args)``, computed in the process. Function and arguments are pickled.

        Raises the error of ours that it raised, BodyTooLarge beyond the limit of memory, DeadlineExceeded when it takes
        too long, OutOfMemory if the system killed the process, BodyTooLarge if native code ended it, and SlipwayError
        for any other end. A process that had
        calls before may have ended for what these left in memory: the call is then made once more, in a new one.
        """
        used = self._end is not None
        size = sum(_size(one) for one in args)
        limit_bytes = TIMES * max(size, LEAST_BYTES)
        try:
            end = self._start()
            send(end, [function, limit_bytes, *args])
            error, *result = receive(end)
        except TimeoutError as late:
            self.close()
            raise DeadlineExceeded("reading or writing this body took too long; send less at a time") from late
        except Closed as lost:
            error = self._lost()
            if used and not isinstance(error, OutOfMemory):
                return self.call(function, *args)
            raise error from lost
        except BaseException:
            self.close()  # a message may have been left half-way
            raise
        if error is not None:
            raise error
        return result[0] if len(result) == 1 else tuple(result)

    def close(self) -> None:
        """End the process, if there is one."""
        process, end = self._process, self._end
        self._process = self._end = None
        if end is not None:
            end.close()
        if process is not None:
            process.kill()
            process.wait()

    def _start(self) -> socket.socket:
        if self._end is not None:
            return self._end
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    [sys.executable, "-c", BOOTSTRAP, str(theirs.fileno()), str(ROOT)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except BaseException:
                ours.close()
                raise
        ours.settimeout(self._timeout_s)
        self._end = ours
        log.info("conversion process started pid=%d", self._process.pid)
        return ours

    def _lost(self) -> SlipwayError:
        """The error of a call whose process has ended."""
        code = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(1.0)
        self.close()
        log.error("the conversion process ended code=%s", code)
        if code == KILLED_FOR_MEMORY:
            return OutOfMemory("not enough memory to read or write this body; send less at a time")
        if code in NATIVE_ENDS:
            return BodyTooLarge("reading or writing this body needs more memory than there is; send less at a time")
        return SlipwayError("the body could not be read or written; the server's log has the details")


def _size(value: Any) -> int:
    """Bytes of one argument: of a body, or of the arrays of a list."""
    if isinstance(value, bytes):
        return len(value)
    return size_of(value) if isinstance(value, list) and value and isinstance(value[0], np.ndarray) else 0
