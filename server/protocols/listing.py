"""Listings: entries are read on the event loop, a few a turn, and a long text of them is made on another thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

from ..errors import SlipwayError
from ..models import Models
from ..models.description import Description, describe, merge
from ..models.versions import Versions
from ..request import Head
from . import JSON, Responder
from .failure import send_failure
from .offload import on_thread

log = logging.getLogger("slipway.listing")

T = TypeVar("T")

IN_A_TURN = 20
"""Entries that are read in one turn of the event loop; the figures of so many models take about a millisecond."""


Gather = Callable[[Any], Awaitable[list[dict[str, Description]]]]
"""The descriptions of one model, or of all (None), in each of the other processes of this server, by name."""


async def nobody(_name: Any) -> list[dict[str, Description]]:
    """There is no other process."""
    return []


async def described(models: Models, gather: Gather) -> AsyncIterator[tuple[Versions, Description]]:
    """All models as all processes see them, a few in a turn of the event loop."""
    others = await gather(None)
    for number, versions in enumerate(models.known(), 1):
        yield versions, merge(describe(models, versions), [theirs.get(versions.name) for theirs in others])
        if number % IN_A_TURN == 0:
            await asyncio.sleep(0)


def collect(entries: Iterator[T], then: Callable[[Any], object], taken: list[T] | None = None) -> None:
    """Call ``then`` with the list of all entries, or with what one of them raised. On the event loop.

    A few entries are read at once; the others follow in later turns of the event loop, after those ``taken`` already.
    """
    taken = [] if taken is None else taken
    try:
        for one in entries:
            taken.append(one)
            if len(taken) % IN_A_TURN == 0:
                asyncio.get_running_loop().call_soon(collect, entries, then, taken)
                return
    except Exception as error:  # noqa: BLE001 - passed to ``then``
        then(error)
        return
    then(taken)


def send_listing(entries: Iterator[T], text: Callable[[list[T]], bytes], head: Head, responder: Responder) -> None:
    """Respond with the JSON ``text`` of all entries, or with an error of which the log has the details."""

    def made(end: Any) -> None:
        if isinstance(end, BaseException):
            log.error("making a listing failed", exc_info=end)
            send_failure(SlipwayError("the listing failed; the server's log has the details"), head, responder)
        else:
            responder.send(200, JSON, end)

    def collected(rows: Any) -> None:
        if isinstance(rows, list) and len(rows) >= IN_A_TURN:
            on_thread(lambda: text(rows), made)
            return
        try:
            end = text(rows) if isinstance(rows, list) else rows
        except Exception as error:  # noqa: BLE001 - logged there
            end = error
        made(end)

    collect(entries, collected)
