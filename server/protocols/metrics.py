"""The route ``/metrics``: all metrics in the Prometheus text format.

The event loop copies the figures of a few models at a time, and another thread formats them. A text that takes long to
format is sent again to scrapes within a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from ..errors import SlipwayError
from ..observe.exposition import Exposition, Plain
from ..observe.metrics import CONTENT_TYPE, Metrics
from ..request import Head
from . import Responder, Route
from .failure import send_failure
from .listing import collect
from .offload import on_thread

log = logging.getLogger("slipway.metrics")

Then = Callable[[Any], object]
Make = Callable[[Then], None]

KEPT_S = 1.0
KEPT_BYTES = 100_000
"""A text of this size or more is kept for ``KEPT_S``: the same figures for all scrapes within it."""


class Scrapes:
    """The scrapes of one server. Those that arrive while a text is being made get the next one together."""

    def __init__(self, make: Make, clock: Callable[[], float] = monotonic) -> None:
        """``make`` begins to make a text, and calls with it, or with an error. ``clock`` returns seconds."""
        self._make = make
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
        self._make(self._made)

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
    return lambda then: exposed(metrics, lambda exposition: exposition.text(), then)


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

    async def make(then: Then) -> None:
        try:
            families = await scrape()
        except Exception as error:  # noqa: BLE001 - logged by the caller
            then(error)
        else:
            on_thread(Plain(families).text, then)

    def begin(then: Then) -> None:
        task = asyncio.ensure_future(make(then))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return begin


def metrics_route(metrics: Metrics, scrape: Callable[[], Awaitable[list[dict[str, Any]]]] | None = None) -> Route:
    """``GET /metrics``. ``scrape``: the families of all processes of this server; None: there is one."""
    scrapes = Scrapes(alone(metrics) if scrape is None else merged(scrape))
    return Route("/metrics", ("GET",), lambda _: scrapes.scrape, "Metrics in the Prometheus text format", "Operations")
