"""The log writer: lines go to a descriptor whose reader may be slow, or may have stopped.

A line is written by its caller if the descriptor takes it at once. Otherwise it waits in a bounded queue for a thread,
and lines beyond the bound are dropped and counted. So a stalled reader never stops the event loop.

A line is text, or a JSON object.
"""

from __future__ import annotations

import logging
import os
import re
import select
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

PLACEHOLDER = re.compile(r"(?:(\w+)=)?%[-#0 +]*\d*(?:\.\d+)?([a-zA-Z%])")
"""A placeholder of a log message, with the key before it where there is one."""

MAX_BYTES = 1_000_000
"""Lines that wait for the reader."""

ATOMIC_BYTES = 4_096
"""A pipe that is ready takes this much without blocking (PIPE_BUF on Linux)."""

CLOSE_S = 1.0
"""How long the end of the process waits for the reader."""


class LogWriter(logging.Handler):
    """Writes records to a file descriptor, formatted unless they are marked as ``verbatim`` (a worker's own lines).
    ``dropped`` counts the lines that were not written."""

    def __init__(self, descriptor: int, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self._structured = False
        self.dropped = 0
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._idle = threading.Condition()  # notified when the thread has no lines any more
        self._lines: deque[bytes] = deque()
        self._bytes = 0  # of lines that wait, or that the thread is writing
        self._draining = False
        self._reported = 0

    def write_as(self, form: str, replica: int | None = None) -> None:
        """``json``: every line is an object, also a worker's; else ``text``. ``replica``: number of the process."""
        self._structured = form == "json"
        if self._structured:
            self.setFormatter(JsonLines(replica))
        else:
            name = "%(name)s" if replica is None else f"%(name)s[{replica}]"
            self.setFormatter(logging.Formatter(LOG_FORMAT.replace("%(name)s", name)))

    def emit(self, record: logging.LogRecord) -> None:
        verbatim = getattr(record, "verbatim", False) and not self._structured
        text = record.getMessage() if verbatim else self.format(record)
        line = text.encode(errors="backslashreplace") + b"\n"
        with self._idle:
            if not self._draining:
                line = self._write_ready(line)
                if not line:
                    return
                self._draining = True
                threading.Thread(target=self._drain, name="slipway-log", daemon=True).start()
            if self._bytes + len(line) > self._max_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._bytes += len(line)

    def flush(self) -> None:
        """Wait for the reader, for a bounded time."""
        with self._idle:
            self._idle.wait_for(lambda: not self._draining, CLOSE_S)

    def families(self) -> Iterator[Any]:
        """The metric family of dropped lines."""
        from prometheus_client.core import CounterMetricFamily

        yield CounterMetricFamily(
            "slipway_log_lines_dropped", "Log lines dropped because the reader of the log did not read", self.dropped
        )

    def _write_ready(self, line: bytes) -> bytes:
        """Write what the descriptor takes without blocking. Returns the rest."""
        while line and self._poll.poll(0):
            try:
                line = line[os.write(self._descriptor, line[:ATOMIC_BYTES]) :]
            except OSError:  # the reader has closed: there is no other place to log to
                self.dropped += 1
                return b""
        return line

    def _drain(self) -> None:
        while True:
            with self._idle:
                if not self._lines and self.dropped > self._reported:
                    self._lines.append(self._report())
                    self._bytes += len(self._lines[0])
                if not self._lines:
                    self._draining = False
                    self._idle.notify_all()
                    return
                line = self._lines.popleft()
            try:
                size, left = len(line), line
                while left:
                    left = left[os.write(self._descriptor, left) :]
            except OSError:
                self.dropped += 1
                self._reported = self.dropped  # nothing can be reported either
            with self._idle:
                self._bytes -= size

    def _report(self) -> bytes:
        """A line that says how many lines were dropped since the last such line."""
        count, self._reported = self.dropped - self._reported, self.dropped
        values = {"name": "slipway.logs", "levelno": logging.WARNING, "levelname": "WARNING"}
        record = logging.makeLogRecord({**values, "msg": "log lines dropped count=%d", "args": (count,)})
        return self.format(record).encode() + b"\n"


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the ``key=value`` pairs of the message as ``fields``, the
    traceback of an exception, and the number of the process where there are several."""

    def __init__(self, replica: int | None = None) -> None:
        super().__init__()
        self._replica = replica

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": when,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._replica is not None:
            line["replica"] = self._replica
        fields = fields_of(record)
        if fields:
            line["fields"] = fields
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except orjson.JSONEncodeError:  # a lone surrogate, or a number that JSON cannot hold
            return orjson.dumps({key: ascii(value) for key, value in line.items()}).decode()


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The values of a record that its message shows as ``key=value``."""
    if not isinstance(record.args, tuple):
        return {}
    found = [key for key, kind in PLACEHOLDER.findall(record.msg if isinstance(record.msg, str) else "") if kind != "%"]
    pairs = zip(found, record.args, strict=False)
    return {key: value if isinstance(value, (int, float)) else str(value) for key, value in pairs if key}
