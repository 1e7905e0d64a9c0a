"""The slowdown of a stage of Slipway for an experiment. It ends after its block, also after an error or Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import Unusable
from ..load import probe
from ..load.target import Target

TIMEOUT_S = 30.0
"""The first request to an admin route is slow, because the server then imports a web framework."""
PATH = "/admin/slowdown"


@dataclass(frozen=True, slots=True)
class Slower:
    """An injected delay of ``extra_us`` in ``stage``; negative to shorten the stage ``queue_timer``."""

    stage: str
    extra_us: int


@contextmanager
def slowed(target: Target, slower: Slower, seconds: float) -> Iterator[None]:
    """Slow a stage down while the block runs. The server ends the slowdown after ``seconds`` even if this process dies.

    Raises Unusable if the server refuses, or is not Slipway.
    """
    _request(target, "PUT", {"stage": slower.stage, "extra_us": slower.extra_us, "seconds": seconds})
    try:
        yield
    finally:
        with suppress(Unusable):  # the server ends it after ``seconds``
            _request(target, "DELETE", None)


def can_slow(target: Target) -> bool:
    """Whether the server accepts requests to slow down its stages."""
    try:
        check(target)
    except Unusable:
        return False
    return True


def check(target: Target) -> None:
    """Raises Unusable, with the reason, unless the server accepts requests to slow down its stages."""
    _request(target, "GET", None)


def _request(target: Target, method: str, body: dict[str, Any] | None) -> None:
    try:
        status, content = probe.ask(target, PATH, json.dumps(body).encode() if body else None, method, TIMEOUT_S)
    except OSError as error:
        raise Unusable(f"cannot reach {target.root}{PATH}: {error}") from error
    response_body = content.decode("utf-8", "replace")
    if status != 200:
        excerpt = " ".join(response_body.split())[:200]  # one line, also of a page
        raise Unusable(f"{target.root} does not slow a stage down ({status} {excerpt})")
    # Some servers answer every path with 200 and an HTML page.
    if not _names_stage(response_body, None if body is None else body["stage"]):
        raise Unusable(f"{target.root} does not slow a stage down: {PATH} answers something else. Is it Slipway?")


def _names_stage(response_body: str, stage: str | None) -> bool:
    """Whether a response is the route's JSON with this ``stage``; None accepts any value of the field."""
    try:
        parsed = json.loads(response_body)
    except ValueError:
        return False
    return isinstance(parsed, dict) and "stage" in parsed and stage in (None, parsed["stage"])
