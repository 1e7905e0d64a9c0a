"""The route ``/metrics``: all metrics in the Prometheus text format, or in OpenMetrics where ``Accept`` prefers it.

The event loop copies the figures of a few models at a time, and another thread formats them. A text that takes long to
format is sent again to scrapes within a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ..codecs.media import ranges
from ..errors import SlipwayError
from ..observe.exposition import Exposition, Plain
from ..observe.metrics import CONTENT_TYPE, OPENMETRICS, Metrics
from ..request import Head
from . import Responder, Route
from .failure import send_failure
from .listing import collect
from .offload import on_thread

log = logging.getLogger("slipway.metrics")

Then = Callable[[Any], object]
Make = Callable[[set[bool], Then], None]
"""Begins to make the texts in these forms (True: OpenMetrics)."""

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

    def __init__(self, make: Make, clock: Callable[[], float] = monotonic) -> None:
        """``make`` begins to make the texts, and calls with them, or with an error. ``clock`` returns seconds."""
        self._make = make
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
        self._make({one.openmetrics for one in self._asking}, self._made)

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


def texts(exposition: Exposition | Plain, forms: set[bool]) -> Texts:
    """The texts of one moment in these forms. May run on any thread."""
    return {openmetrics: exposition.text(openmetrics) for openmetrics in forms}


def prefers_openmetrics(accept: bytes) -> bool:
    """Whether an Accept header names OpenMetrics, and no other type of text with a higher quality."""
    qualities: dict[str, float] = {}
    for name, weight in ranges(accept.decode("latin-1")):
        qualities[name] = max(weight, qualities.get(name, 0.0))
    wanted = qualities.get("application/openmetrics-text", 0.0)
    return wanted > 0 and wanted >= max(qualities.get("text/plain", 0.0), qualities.get("text/*", 0.0))


def exposed(metrics: Metrics, work: Callable[[Exposition], Any], then: Then) -> None:
    """Call ``then`` with the result of ``work``, which runs on another thread with the figures of this process."""

    def copied(copies: Any) -> None:
        try:
            if isinstance(copies, BaseException):
                then(copies)
            else:
                exposition = metrics.exposition(copies)
                on_thread(lambda: work(exposition), then)
        except Exception as error:  # noqa: BLE001 - logged by the caller
            then(error)

    collect(metrics.copies(), copied)


def alone(metrics: Metrics) -> Make:
    """Makes texts of the figures of this process."""
    return lambda forms, then: exposed(metrics, lambda exposition: texts(exposition, forms), then)


async def plain(metrics: Metrics) -> list[dict[str, Any]]:
    """The families of this process as values that can be written as JSON."""
    made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    exposed(metrics, Exposition.plain, made.set_result)
    end = await made
    if isinstance(end, BaseException):
        raise end
    return list(end)


def merged(scrape: Callable[[], Awaitable[list[dict[str, Any]]]]) -> Make:
    """Makes texts of the families that ``scrape`` returns: those of all processes of this server."""
    tasks: set[asyncio.Future[None]] = set()

    async def make(forms: set[bool], then: Then) -> None:
        try:
            families = await scrape()
        except Exception as error:  # noqa: BLE001 - logged by the caller
            then(error)
        else:
            on_thread(lambda: texts(Plain(families), forms), then)

    def begin(forms: set[bool], then: Then) -> None:
        task = asyncio.ensure_future(make(forms, then))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return begin


def metrics_route(metrics: Metrics, scrape: Callable[[], Awaitable[list[dict[str, Any]]]] | None = None) -> Route:
    """``GET /metrics``. ``scrape``: the families of all processes of this server; None: there is one."""
    scrapes = Scrapes(alone(metrics) if scrape is None else merged(scrape))
    return Route("/metrics", ("GET",), lambda _: scrapes.scrape, "Metrics in the Prometheus text format", "Operations")
