"""The state: models, versions, comparisons and figures of one moment, as one JSON document.

The event loop describes a few models a turn; another thread makes the text. All viewers within a second share one text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic, time
from typing import Any

import orjson

from ...errors import SlipwayError, UnknownModel
from ...lifecycle import Lifecycle
from ...models import Models
from ...models.description import Description
from ...models.versions import Versions
from ...observe.metrics import Metrics
from ...request import Head, Headers
from .. import JSON, Responder
from ..failure import send_failure
from ..listing import Gather, described, nobody
from ..metrics import plain
from .figures import figures

log = logging.getLogger("slipway.dashboard")

KEPT_S = 1.0
NO_STORE: Headers = [(b"cache-control", b"no-store")]
MOST_SWITCHES = 5
"""The newest switches of a model that are shown."""

Scrape = Callable[[], Awaitable[list[dict[str, Any]]]]


class States:
    """The state of one server. Requests that arrive while a text is made get that text."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        metrics: Metrics,
        facts: Mapping[str, Any],
        scrape: Scrape | None = None,
        gather: Gather = nobody,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``facts`` never change and are part of every text. ``scrape`` returns the metric families of all processes of
        this server, and ``gather`` the descriptions of the others; without ``scrape`` there is one. ``clock`` returns
        seconds."""
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._facts = facts
        self._scrape = scrape
        self._gather = gather
        self._clock = clock
        self._waiting: list[tuple[Head, Responder]] = []
        self._making: asyncio.Task[None] | None = None
        self._text = b""
        self._made_s = 0.0

    def ask(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        """Respond with the state of now, or of the last second."""
        if self._text and self._clock() - self._made_s < KEPT_S:
            responder.send(200, JSON, self._text, NO_STORE)
            return
        self._waiting.append((head, responder))
        if self._making is None:
            self._making = asyncio.ensure_future(self._make())

    async def _make(self) -> None:
        try:
            rows = await self._rows()
            families = await (plain(self._metrics) if self._scrape is None else self._scrape())
            self._text = await asyncio.to_thread(_text, self._head(rows), families)
        except Exception as error:
            self._text = b""
            log.error("making the state of the dashboard failed", exc_info=error)
        self._made_s, self._making = self._clock(), None
        asking, self._waiting = self._waiting, []
        failure = SlipwayError("the state could not be read; the server's log has the details")
        for head, responder in asking:
            if self._text:
                responder.send(200, JSON, self._text, NO_STORE)
            else:
                send_failure(failure, head, responder)

    def _head(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        phase = self._lifecycle.phase.value
        return {
            **self._facts,
            "clock_s": self._clock(),
            "now_s": time(),
            "ready": self._lifecycle.ready,
            "phase": "stalled" if self._lifecycle.stalled and phase == "ready" else phase,
            "reason": self._lifecycle.stalled or self._lifecycle.reason,
            "default": self._default(),
            "models": rows,
        }

    def _default(self) -> str | None:
        try:
            return self._models.default().name
        except UnknownModel:
            return None

    async def _rows(self) -> list[dict[str, Any]]:
        return [_shown(one, versions) async for versions, one in described(self._models, self._gather)]


def _shown(one: Description, versions: Versions) -> dict[str, Any]:
    """Without paths, and without the reasons of states, which may quote paths: the admin routes show them."""
    probation = one["probation"]
    return {
        "name": one["name"],
        "answers": one["answers"],
        "labels": one["labels"],
        "previous": versions.previous,
        "versions": [_version(row, versions) for row in one["versions"]],
        "comparison": one["comparison"],
        "probation_left_s": None if probation is None else probation["left_s"],
        "switches": one["switches"][: -MOST_SWITCHES - 1 : -1],
    }


def _version(row: Mapping[str, Any], versions: Versions) -> dict[str, Any]:
    known = versions.known.get(row["version"])
    model = None if known is None else known.model
    served = (
        {}
        if model is None
        else {
            "scripted": model.scripted,
            "backend": model.artifact.manifest.backend,
            "device": "CPU" if model.metrics.device is None else "GPU",
            "max_batch_size": model.max_batch_size,
            "cached": model.cache is not None,
            "independent": model.independent,
        }
    )
    return {"version": row["version"], "state": row["state"], "pinned": row["pinned"], **served}


def _text(head: dict[str, Any], families: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({**head, **figures(families)})
