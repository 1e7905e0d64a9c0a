"""Measurements: one row of integers for each request."""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .server_timing import ABOUT, MISSING, NOTHING, STAGES

ROW = (
    "index",  # place in the schedule, or order of sending in a closed loop
    "due_ns",  # intended send instant
    "picked_ns",  # the generator got to it: later than due only when the generator itself was late
    "send_ns",  # write began: later than picked only when a connection had to be waited for
    "sent_ns",  # the last byte left for the kernel
    "first_byte_ns",
    "last_byte_ns",  # the end of the response, or of the wait for it
    "outcome",
    "status",
    "bytes_in",  # of the response's body
    "bytes_out",  # of the request's body
    "payload",  # which of the load's payloads it carried
    *(f"{stage}_ns" for stage in STAGES),
    "batch",
    *ABOUT,
)
COLUMNS = ("repeat", *ROW)
"""``repeat``: which repetition of the load, from 0. Instants are ns since the start of the first, stage times are
durations in ns; MISSING where nothing happened, or the server does not tell."""


class Outcome(enum.IntEnum):
    """How a request ended. Only OK has a latency that describes the service."""

    OK = 0
    STATUS = 1
    TIMEOUT = 2
    CONNECTION = 3
    TRUNCATED = 4
    HTML = 5
    """A page, such as that of a login, for a request with a body. No model answers with one."""


class Request:
    """One request on its way. Hot: thousands exist at a time, so slots and no dataclass machinery."""

    __slots__ = (
        "bytes_out",
        "done",
        "due_ns",
        "first_byte_ns",
        "index",
        "payload",
        "picked_ns",
        "send_ns",
        "sent_ns",
        "wire",
    )

    def __init__(self, index: int, due_ns: int, picked_ns: int, wire: bytes, payload: int, bytes_out: int) -> None:
        self.index = index
        self.wire = wire
        self.payload = payload
        self.bytes_out = bytes_out
        self.due_ns = due_ns
        self.picked_ns = picked_ns
        self.send_ns = MISSING
        self.sent_ns = MISSING
        self.first_byte_ns = MISSING
        self.done = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. ``detail``: the body of an error response, or the error without a response."""

    outcome: Outcome
    status: int = 0
    bytes_in: int = 0
    timing: tuple[int, ...] = NOTHING
    detail: bytes = b""


@dataclass(frozen=True, slots=True)
class Failure:
    """The first failure of its kind; later ones of that kind are only counted, which bounds memory."""

    index: int
    detail: bytes


def kind_of(outcome: int, status: int) -> str:
    """The name under which a failure is counted: its status code, or the outcome without one."""
    return str(status) if outcome == Outcome.STATUS else Outcome(outcome).name.lower()


class Measurements:
    """Rows in the order in which requests ended: 8 bytes per column each, and one ``Failure`` per kind."""

    def __init__(self, start_ns: int = 0) -> None:
        self.start_ns = start_ns
        self.failures: dict[str, Failure] = {}
        self.failed = 0
        self._rows = array("q")

    def __len__(self) -> int:
        return len(self._rows) // len(ROW)

    def add(self, request: Request, ending: Ending, last_byte_ns: int) -> None:
        """Add the row of a request that ended; instants are of the generator's clock."""
        start_ns = self.start_ns
        self._rows.extend(
            (
                request.index,
                request.due_ns - start_ns,
                request.picked_ns - start_ns,
                # The clock counts from boot, so no instant equals MISSING.
                request.send_ns - start_ns if request.send_ns != MISSING else MISSING,
                request.sent_ns - start_ns if request.sent_ns != MISSING else MISSING,
                request.first_byte_ns - start_ns if request.first_byte_ns != MISSING else MISSING,
                last_byte_ns - start_ns,
                ending.outcome,
                ending.status,
                ending.bytes_in,
                request.bytes_out,
                request.payload,
                *ending.timing,
            )
        )
        if ending.outcome != Outcome.OK:
            self.failed += 1
            kind = kind_of(ending.outcome, ending.status)
            if kind not in self.failures:
                self.failures[kind] = Failure(request.index, ending.detail)

    def columns(self) -> dict[str, NDArray[np.int64]]:
        """Every column by name, int64 [n], a copy in schedule order."""
        table = np.frombuffer(self._rows, dtype=np.int64).reshape(-1, len(ROW))
        table = table[np.argsort(table[:, 0], kind="stable")]
        named = {name: np.ascontiguousarray(table[:, at]) for at, name in enumerate(ROW)}
        return {"repeat": np.zeros(len(table), dtype=np.int64), **named}
