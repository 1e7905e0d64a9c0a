"""The slowdown of a stage of Slipway, for an experiment: asked for, and ended again whatever happens."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import Unusable
from ..load.target import Target

TIMEOUT_S = 30.0
"""The first request to an admin route of a server waits for the import of a framework."""
PATH = "/admin/slowdown"


@dataclass(frozen=True, slots=True)
class Slower:
    """``extra_us`` microseconds more in a stage; below 0 for a shorter ``queue_timer``."""

    stage: str
    extra_us: int


@contextmanager
def slowed(target: Target, what: Slower, seconds: float) -> Iterator[None]:
    """Slow a stage down while the block runs. The server ends it by itself after ``seconds``, if this process cannot.

    Raises Unusable if the server refuses, or is not Slipway.
    """
    _ask(target, "PUT", {"stage": what.stage, "extra_us": what.extra_us, "seconds": seconds})
    try:
        yield
    finally:
        with suppress(Unusable):  # the server has its own end of it
            _ask(target, "DELETE", None)


def can_slow(target: Target) -> bool:
    """Whether the server slows its stages down on request."""
    try:
        check(target)
    except Unusable:
        return False
    return True


def check(target: Target) -> None:
    """Raises Unusable, with the reason, unless the server slows its stages down on request."""
    _ask(target, "GET", None)


def _ask(target: Target, method: str, body: dict[str, Any] | None) -> None:
    make = http.client.HTTPSConnection if target.tls else http.client.HTTPConnection
    connection = make(target.host, target.port, timeout=TIMEOUT_S)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, PATH, text, {"Content-Type": "application/json"} if text else {})
        response = connection.getresponse()
        answer = response.read(10_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise Unusable(f"cannot reach {target.root}{PATH}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        said = " ".join(answer.split())[:200]  # one line, also of a page
        raise Unusable(f"{target.root} does not slow a stage down ({response.status} {said})")
    # Some servers answer every path with 200 and a page of theirs.
    if not _tells(answer, None if body is None else body["stage"]):
        raise Unusable(f"{target.root} does not slow a stage down: {PATH} answers something else. Is it Slipway?")


def _tells(answer: str, stage: str | None) -> bool:
    """Whether an answer of the route names ``stage``, or any stage or none for None."""
    try:
        found = json.loads(answer)
    except ValueError:
        return False
    return isinstance(found, dict) and "stage" in found and stage in (None, found["stage"])
