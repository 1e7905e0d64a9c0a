"""Background work of a route: a task that goes on if its client leaves, and always ends in a response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import SlipwayError
from ..request import Head
from . import JSON, Responder
from .failure import send_failure

T = TypeVar("T")

log = logging.getLogger("slipway.background")


class Background:
    """Runs the work of requests in tasks."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def respond(self, head: Head, responder: Responder, work: Callable[[], Awaitable[object]], body: bytes) -> None:
        """Start ``work``; respond with 200 and ``body`` when it is done, else with its error."""
        self.run(head, responder, work, lambda _: responder.send(200, JSON, body))

    def run(
        self, head: Head, responder: Responder, work: Callable[[], Awaitable[T]], then: Callable[[T], object]
    ) -> None:
        """Start ``work``; call ``then``, which responds, with its result when it is done, else respond with its error.
        ``then`` raises nothing."""
        task = asyncio.ensure_future(_do(head, responder, work, then))
        self._running.add(task)
        task.add_done_callback(self._running.discard)


async def _do(head: Head, responder: Responder, work: Callable[[], Awaitable[T]], then: Callable[[T], object]) -> None:
    try:
        result = await work()
    except SlipwayError as error:
        send_failure(error, head, responder)
    except Exception:
        log.exception("a request failed path=%s", ascii(head.path)[:200])
        send_failure(SlipwayError("the server failed; its log has the details"), head, responder)
    else:
        then(result)
