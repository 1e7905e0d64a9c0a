"""The route ``/metrics``: all metrics in the Prometheus text format.

The event loop copies the figures of a few models at a time, and another thread formats them. A text that takes long to
format is sent again to scrapes within a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from ..errors import SlipwayError
from ..observe.metrics import CONTENT_TYPE, Metrics
from ..request import Head
from . import Responder, Route
from .failure import send_failure
from .listing import collect
from .offload import on_thread

log = logging.getLogger("slipway.metrics")

KEPT_S = 1.0
KEPT_BYTES = 100_000
"""A text of this size or more is kept for ``KEPT_S``: the same figures for all scrapes within it."""


class Scrapes:
    """The scrapes of one server. Those that arrive while a text is being made get the next one together."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = monotonic) -> None:
        """``clock`` returns seconds."""
        self._metrics = metrics
        self._clock = clock
        self._waiting: list[tuple[Head, Responder]] = []
        self._asking: list[tuple[Head, Responder]] = []  # those that get the text that is being made
        self._making = False
        self._text = b""
        self._made_s = 0.0

    def scrape(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        """Respond with the figures of now, or of the last second where there are many."""
        if self._text and self._clock() - self._made_s < KEPT_S:
            responder.send(200, CONTENT_TYPE, self._text)
            return
        self._waiting.append((head, responder))
        if not self._making:
            self._begin()

    def _begin(self) -> None:
        self._making = True
        self._asking, self._waiting = self._waiting, []
        collect(self._metrics.copies(), self._copied)

    def _copied(self, copies: Any) -> None:
        try:
            if isinstance(copies, BaseException):
                self._made(copies)
            else:
                on_thread(self._metrics.exposition(copies).text, self._made)
        except Exception as error:  # noqa: BLE001 - logged there
            self._made(error)

    def _made(self, end: bytes | BaseException) -> None:
        asking, self._asking, self._making = self._asking, [], False
        if isinstance(end, BaseException):
            log.error("making the metrics failed", exc_info=end)
            failure = SlipwayError("the metrics could not be read; the server's log has the details")
            for head, responder in asking:
                send_failure(failure, head, responder)
        else:
            self._text, self._made_s = (end, self._clock()) if len(end) >= KEPT_BYTES else (b"", 0.0)
            for _, responder in asking:
                responder.send(200, CONTENT_TYPE, end)
        if self._waiting:
            self._begin()


def metrics_route(metrics: Metrics) -> Route:
    """``GET /metrics``."""
    scrapes = Scrapes(metrics)
    return Route("/metrics", ("GET",), lambda _: scrapes.scrape, "Metrics in the Prometheus text format", "Operations")
