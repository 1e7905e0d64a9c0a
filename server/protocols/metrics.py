"""The route ``/metrics``: all metrics in the Prometheus text format, or in OpenMetrics where ``Accept`` prefers it.

The event loop copies the figures of a few models at a time, and another thread formats them. A text that takes long to
format is sent again to scrapes within a second.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ..errors import SlipwayError
from ..observe.exposition import Exposition
from ..observe.metrics import CONTENT_TYPE, OPENMETRICS, Metrics
from ..request import Head
from . import Responder, Route
from .failure import send_failure
from .listing import collect
from .offload import on_thread

log = logging.getLogger("slipway.metrics")

KEPT_S = 1.0
KEPT_BYTES = 100_000
"""A text of this size or more is kept for ``KEPT_S``: the same figures for all scrapes within it."""


Texts = dict[bool, bytes]
"""The text of the same figures in OpenMetrics (True) or not."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """One request for the metrics."""

    head: Head
    responder: Responder
    openmetrics: bool

    def answer(self, text: bytes) -> None:
        self.responder.send(200, OPENMETRICS if self.openmetrics else CONTENT_TYPE, text)


class Scrapes:
    """The scrapes of one server. Those that arrive while a text is being made get the next one together."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = monotonic) -> None:
        """``clock`` returns seconds."""
        self._metrics = metrics
        self._clock = clock
        self._waiting: list[Scrape] = []
        self._asking: list[Scrape] = []  # those that get the text that is being made
        self._making = False
        self._kept: Texts = {}
        self._made_s = 0.0

    def scrape(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        """Respond with the figures of now, or of the last second where there are many."""
        one = Scrape(head, responder, prefers_openmetrics(head.get(b"accept") or b""))
        kept = self._kept.get(one.openmetrics)
        if kept is not None and self._clock() - self._made_s < KEPT_S:
            one.answer(kept)
            return
        self._waiting.append(one)
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
                exposition = self._metrics.exposition(copies)
                forms = {one.openmetrics for one in self._asking}
                on_thread(lambda: texts(exposition, forms), self._made)
        except Exception as error:  # noqa: BLE001 - logged there
            self._made(error)

    def _made(self, end: Texts | BaseException) -> None:
        asking, self._asking, self._making = self._asking, [], False
        if isinstance(end, BaseException):
            log.error("making the metrics failed", exc_info=end)
            failure = SlipwayError("the metrics could not be read; the server's log has the details")
            for one in asking:
                send_failure(failure, one.head, one.responder)
        else:
            self._kept, self._made_s = (
                {key: text for key, text in end.items() if len(text) >= KEPT_BYTES},
                self._clock(),
            )
            for one in asking:
                one.answer(end[one.openmetrics])
        if self._waiting:
            self._begin()


def texts(exposition: Exposition, forms: set[bool]) -> Texts:
    """The texts of one moment in these forms. May run on any thread."""
    return {openmetrics: exposition.text(openmetrics) for openmetrics in forms}


def prefers_openmetrics(accept: bytes) -> bool:
    """Whether an Accept header names OpenMetrics, and no other type of text with a higher quality."""
    qualities: dict[str, float] = {}
    for part in accept.decode("latin-1").lower().split(","):
        name, *parameters = (one.strip() for one in part.split(";"))
        quality = 1.0
        for one in parameters:
            if one.startswith("q="):
                try:
                    quality = float(one[2:])
                except ValueError:
                    quality = 0.0
        qualities[name] = max(quality, qualities.get(name, 0.0))
    wanted = qualities.get("application/openmetrics-text", 0.0)
    return wanted > 0 and wanted >= max(qualities.get("text/plain", 0.0), qualities.get("text/*", 0.0))


def metrics_route(metrics: Metrics) -> Route:
    """``GET /metrics``."""
    scrapes = Scrapes(metrics)
    return Route("/metrics", ("GET",), lambda _: scrapes.scrape, "Metrics in the Prometheus text format", "Operations")
