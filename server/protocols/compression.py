"""Compressed request bodies: expanded on another thread, up to the limit of a body."""

from __future__ import annotations

import logging
from functools import partial
from typing import Protocol

from ..content_encoding import expand
from ..errors import ServerFull, SlipwayError
from ..observe.metrics import Metrics
from ..request import Head, InferRequest
from . import Handler, Responder
from .failure import send_failure
from .offload import on_thread

log = logging.getLogger("slipway.inference")


class Account(Protocol):
    """The received bytes that the process holds, and their limit."""

    def move(self, change_bytes: int) -> None: ...

    def full(self, more_bytes: int) -> bool: ...


class Expander:
    """Expands compressed bodies on another thread, and passes them to their handler.

    An expanded body counts as received until its request has ended.
    """

    def __init__(self, max_bytes: int, metrics: Metrics, account: Account) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._account = account

    def pass_on(self, handler: Handler, head: Head, body: bytes, encoding: bytes, responder: Responder) -> None:
        """Call the handler with the expanded body, and without the header; or send an error."""

        def then(end: bytes | BaseException) -> None:
            try:
                if isinstance(end, BaseException):
                    raise end
                if self._account.full(len(end)):
                    raise ServerFull("the server holds as many received bytes as it may; retry later")
                head.headers = [pair for pair in head.headers if pair[0] != b"content-encoding"]
                self._hold(handler(head, end, responder), len(end))
            except SlipwayError as error:
                self._metrics.refused[error.code] += 1
                send_failure(error, head, responder)
            except Exception:
                log.exception("handling a compressed body failed")
                send_failure(SlipwayError("the request failed; the server's log has the details"), head, responder)

        on_thread(partial(expand, body, encoding, self._max_bytes), then)

    def _hold(self, pending: InferRequest | None, size_bytes: int) -> None:
        """Count an expanded body until its request has ended."""
        if pending is None or pending.ended:
            return
        done, account = pending.done, self._account
        account.move(size_bytes)

        def release(request: InferRequest) -> None:
            account.move(-size_bytes)
            done(request)

        pending.done = release
