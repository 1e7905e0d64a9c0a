"""The way of a script's pieces to its client: from the thread of the run to the event loop, no faster than it reads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ..errors import ClientGone, SlipwayError
from ..request import Headers, InferRequest
from ..scripts.call import Answer
from .inference import ECHO_WORD, Exchange, carried
from .responder import Outlet
from .streaming import begin

WINDOW_BYTES = 262_144
"""What may be on its way to a client before the script has to wait for it."""


class PieceStream:
    """The answer to one request, if it comes in pieces. ``begin`` and ``write`` are called on the thread of the run,
    all else on the event loop."""

    __slots__ = ("_exchange", "_held", "_lock", "_loop", "_outlet", "_request", "_turn", "_unread", "begun", "status")

    def __init__(self, loop: asyncio.AbstractEventLoop, request: InferRequest) -> None:
        self._loop = loop
        self._request = request
        self._exchange: Exchange = request.context
        self._lock = threading.Lock()
        self._unread = 0  # bytes that were given and that the client has not made room for
        self._held = 0  # of these, what has been written while the client did not read
        self._turn = threading.Event()
        self._outlet: Outlet | None = None
        self.begun = False
        self.status = 200

    @property
    def left(self) -> bool:
        return self._request.abandoned

    @property
    def writable(self) -> bool:
        return self._unread < WINDOW_BYTES

    def begin(self, answer: Answer, turn: threading.Event) -> None:
        self._turn = turn
        self.begun = True
        self.status = answer.status
        headers = answer.headers
        exchange = self._exchange
        if exchange.carrier == ECHO_WORD:  # stage times are not known yet, what the caller sent is
            own = {name for name, _ in headers}
            ours = carried(self._request, exchange.head, 0, exchange)
            headers = [*headers, *(pair for pair in ours if pair[0] not in own)]
        self._post(self._begin, answer.content_type.encode(), headers)
        self.write(answer.body)

    def write(self, piece: bytes) -> None:
        with self._lock:
            self._unread += len(piece)
        self._post(self._write, piece)

    def resume(self) -> None:
        with self._lock:
            self._unread -= self._held
            self._held = 0
        self._turn.set()

    def gone(self) -> None:
        self._request.abandoned = True
        self._turn.set()

    def finish(self, error: SlipwayError | None) -> None:
        """The run has ended, well or not, and so does the answer. Nobody is told who has left."""
        metrics = self._exchange.model.metrics
        if self._request.abandoned or self._outlet is None:
            metrics.answers[ClientGone.code] += 1
        elif error is not None:
            metrics.answers[error.code] += 1
            self._outlet.fail(error)
        else:
            encoded_ns = perf_counter_ns()
            self._outlet.end()
            metrics.answers["ok" if self.status < 500 else "script_error"] += 1
            head = self._exchange.head
            metrics.stages.record(self._request, head.begun_ns, head.received_ns, encoded_ns, perf_counter_ns())

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: the server has ended without waiting
            self._request.abandoned = True

    def _begin(self, content_type: bytes, headers: Headers) -> None:
        if not self._request.abandoned:
            exchange = self._exchange
            self._outlet = begin(exchange.head, exchange.responder, self.status, content_type, self, headers)

    def _write(self, piece: bytes) -> None:
        if self._outlet is None or self._request.abandoned:
            self._turn.set()
            return
        self._outlet.write(piece)
        with self._lock:
            if self._outlet.writable:
                self._unread -= len(piece)
            else:
                self._held += len(piece)
        self._turn.set()
