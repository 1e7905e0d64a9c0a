"""The state: models, versions, comparisons and figures of one moment, as one JSON document.

The event loop copies a few models a turn; another thread makes the text. All viewers within a second share one text.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from time import monotonic, time
from typing import Any

import orjson

from ...errors import SlipwayError, UnknownModel
from ...lifecycle import Lifecycle
from ...models import Models
from ...models.traffic import Arm, Canary, Shadow
from ...models.versions import Version, Versions
from ...observe.exposition import Exposition
from ...observe.metrics import Metrics
from ...request import Head, Headers
from .. import JSON, Responder
from ..failure import send_failure
from ..listing import collect
from ..offload import on_thread
from .figures import figures, of_process

log = logging.getLogger("slipway.dashboard")

KEPT_S = 1.0
NO_STORE: Headers = [(b"cache-control", b"no-store")]
MOST_SWITCHES = 5
"""The newest switches of a model that are shown."""


class States:
    """The state of one server. Requests that arrive while a text is made get that text."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        metrics: Metrics,
        facts: Mapping[str, Any],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``facts`` never change and are part of every text. ``clock`` returns seconds."""
        self._models = models
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._facts = facts
        self._clock = clock
        self._waiting: list[tuple[Head, Responder]] = []
        self._text = b""
        self._made_s = 0.0

    def ask(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        """Respond with the state of now, or of the last second."""
        if self._text and self._clock() - self._made_s < KEPT_S:
            responder.send(200, JSON, self._text, NO_STORE)
            return
        self._waiting.append((head, responder))
        if len(self._waiting) == 1:
            collect((self._model(one) for one in self._models.known()), self._described)

    def _described(self, rows: Any) -> None:
        if isinstance(rows, BaseException):
            self._made(rows)
        else:
            collect(self._metrics.copies(), lambda copies: self._copied(rows, copies))

    def _copied(self, rows: list[dict[str, Any]], copies: Any) -> None:
        try:
            if isinstance(copies, BaseException):
                raise copies
            exposition = self._metrics.exposition(copies)
            head = self._head(rows)
            on_thread(lambda: _text(head, exposition), self._made)
        except Exception as error:  # noqa: BLE001 - logged there
            self._made(error)

    def _made(self, end: bytes | BaseException) -> None:
        asking, self._waiting = self._waiting, []
        if isinstance(end, BaseException):
            self._text = b""
            log.error("making the state of the dashboard failed", exc_info=end)
            failure = SlipwayError("the state could not be read; the server's log has the details")
            for head, responder in asking:
                send_failure(failure, head, responder)
            return
        self._text, self._made_s = end, self._clock()
        for _, responder in asking:
            responder.send(200, JSON, end, NO_STORE)

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

    def _model(self, versions: Versions) -> dict[str, Any]:
        current = versions.current()
        releases = self._models.releases
        probation = releases.probation(versions.name)
        return {
            "name": versions.name,
            "answers": None if current is None else current.version,
            "labels": dict(versions.labels),
            "previous": versions.previous,
            "versions": [_version(one) for one in versions.rows()],
            "comparison": _comparison(releases.comparison(versions.name)),
            "probation_left_s": None if probation is None else probation.left_s,
            "switches": [[one.at_s, one.version, one.reason] for one in _newest(versions)],
        }


def _newest(versions: Versions) -> Iterator[Any]:
    return (one for _, one in zip(range(MOST_SWITCHES), reversed(versions.switches), strict=False))


def _version(one: Version) -> dict[str, Any]:
    """Without the reason of its state, which may quote a path: the admin routes show it."""
    model = one.model
    row: dict[str, Any] = {"version": one.version, "state": one.state.value, "pinned": one.pinned}
    if model is not None:
        row |= {
            "scripted": model.scripted,
            "backend": model.artifact.manifest.backend,
            "device": "CPU" if model.metrics.device is None else "GPU",
            "max_batch_size": model.max_batch_size,
            "independent": model.independent,
            "cached": model.cache is not None,
        }
    return row


def _comparison(one: Canary | Shadow | None) -> dict[str, Any] | None:
    if one is None:
        return None
    if isinstance(one, Canary):
        return {"kind": "canary", "percent": one.percent, "stable": _arm(one.stable), "other": _arm(one.candidate)}
    gap = one.largest_difference
    return {
        "kind": "shadow",
        "percent": one.percent,
        "stable": _arm(one.stable),
        "other": _arm(one.shadow),
        "outcomes": dict(one.outcomes),
        "largest_difference": gap if gap != float("inf") else None,
    }


def _arm(arm: Arm) -> dict[str, Any]:
    version = arm.model.version
    return {"version": version, "answers": arm.answers, "faults": arm.faults, "p95_s": arm.p95_ns / 1e9}


def _text(head: dict[str, Any], exposition: Exposition) -> bytes:
    return orjson.dumps({**head, **figures(chain(exposition.collect(), of_process()))})
