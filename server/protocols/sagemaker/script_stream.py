"""Streamed responses of a script: chunks go from the thread of the run to the event loop, no faster than the client
reads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ...errors import ClientGone, SlipwayError
from ...observe.runs import runs_of
from ...request import Headers, InferRequest
from ...scripts.call import ScriptResponse
from ..exchange import Exchange
from ..inference import fail
from ..request_options import CUSTOM_ATTRIBUTES
from ..responder import Outlet
from ..streaming import begin

log = logging.getLogger("slipway.inference")

WINDOW_BYTES = 262_144
"""Unread bytes from which on the script has to wait for the client."""


class ScriptStream:
    """The streamed response to one request. ``begin`` and ``write`` are called on the thread of the run, all other
    methods on the event loop."""

    __slots__ = (
        "_changed",
        "_client_left",
        "_exchange",
        "_fault",
        "_held",
        "_lock",
        "_loop",
        "_outlet",
        "_request",
        "_unread",
        "begun",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, request: InferRequest) -> None:
        self._loop = loop
        self._request = request
        self._exchange: Exchange = request.context
        self._lock = threading.Lock()
        self._unread = 0  # bytes that the client has not read yet
        self._held = 0  # those of them that were written while the client did not read
        self._changed = threading.Event()
        self._outlet: Outlet | None = None
        self._fault: SlipwayError | None = None
        self._client_left = False  # unlike ``abandoned``, which faults set too
        self.begun = False
        self.status = 200

    @property
    def left(self) -> bool:
        return self._request.abandoned

    @property
    def writable(self) -> bool:
        return self._unread < WINDOW_BYTES

    def begin(self, response: ScriptResponse, changed: threading.Event) -> None:
        """Send status, headers and the first chunk. Stage times are not known yet; echoed attributes are."""
        self._changed = changed
        self.begun = True
        self.status = response.status
        headers = response.headers
        echo = self._exchange.echo
        if echo and all(name != CUSTOM_ATTRIBUTES for name, _ in headers):
            headers = [*headers, (CUSTOM_ATTRIBUTES, echo)]
        self._post(self._begin, response.content_type.encode(), headers)
        self.write(response.body)

    def write(self, chunk: bytes) -> None:
        with self._lock:
            self._unread += len(chunk)
        self._post(self._write, chunk)

    def resume(self) -> None:
        with self._lock:
            self._unread -= self._held
            self._held = 0
        self._changed.set()

    def gone(self) -> None:
        self._client_left = self._request.abandoned = True
        self._changed.set()

    def finish(self, error: SlipwayError | None) -> None:
        """End the response after the run, or at its deadline, with the error if there is one."""
        self._changed.set()  # a run that waits for the client may drop what is left
        model, head = self._exchange.model, self._exchange.head
        metrics = model.metrics
        outcome = "ok" if self.status < 500 else "script_error"
        if self._client_left:
            outcome = ClientGone.code
            metrics.fail(outcome, head.received_ns)
        elif self._outlet is None:  # nothing was sent: the client left before, or the beginning failed
            error = error or self._fault
            if error is None and not self._request.abandoned:
                error = SlipwayError("the server failed on this response; its log has the details")
            self._request.error = error
            fail(self._request, self._exchange)
            return
        elif error is not None or self._fault is not None:
            error = error or self._fault
            assert error is not None
            outcome = error.code
            metrics.fail(outcome, head.received_ns)
            self._outlet.fail(error)
        else:
            encoded_ns = perf_counter_ns()
            self._outlet.end()
            metrics.answers[outcome] += 1
            metrics.stages.record(self._request, head.begun_ns, head.received_ns, encoded_ns, perf_counter_ns())
        if model.trace is not None:
            runs = runs_of(self._request)
            model.trace.record(metrics, head, None, outcome, self.status, 0, perf_counter_ns(), runs)

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the event loop is closed: the server ended without waiting for this run
            self._request.abandoned = True

    def _begin(self, content_type: bytes, headers: Headers) -> None:
        if self._request.abandoned:
            return
        exchange = self._exchange
        try:
            self._outlet = begin(exchange.head, exchange.responder, self.status, content_type, self, headers)
        except Exception as error:  # noqa: BLE001 - logged there
            self._fail("beginning", error)
        else:
            self._request.answered = True

    def _write(self, chunk: bytes) -> None:
        try:
            if self._outlet is not None and not self._request.abandoned and self._fault is None:
                self._outlet.write(chunk)
                with self._lock:
                    if self._outlet.writable:
                        self._unread -= len(chunk)
                    else:
                        self._held += len(chunk)
        except Exception as error:  # noqa: BLE001 - logged there
            self._fail("writing", error)
        self._changed.set()

    def _fail(self, action: str, error: Exception) -> None:
        """Keep a fault for :meth:`finish`, and let the script go on without waiting for the client."""
        log.error("%s a streamed response failed model=%s", action, self._exchange.model.name, exc_info=error)
        self._fault = SlipwayError("the server failed on this response; its log has the details")
        with self._lock:
            self._unread = self._held = 0
