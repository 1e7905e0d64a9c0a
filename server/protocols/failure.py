"""Failures as HTTP responses: the one place that maps error classes to status codes."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable

import orjson

from .. import errors
from ..errors import SlipwayError, release
from ..lifecycle import Lifecycle
from ..observe.metrics import Metrics
from ..request import REQUEST_ID_HEADERS, Head, Headers, InferRequest
from . import JSON, Handler, Responder

STATUS: dict[type[SlipwayError], int] = {
    errors.MalformedInput: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.UnknownModel: 404,
    errors.NoSuchArtifact: 404,
    errors.NotAcceptable: 406,
    errors.SlowRequest: 408,
    errors.AlreadyLoaded: 409,
    errors.BodyTooLarge: 413,
    errors.UrlTooLong: 414,
    errors.UnsupportedMedia: 415,
    errors.UnprocessableInput: 422,
    errors.BrokenArtifact: 422,
    errors.Overloaded: 429,
    errors.HeadTooLarge: 431,
    errors.ClientGone: 499,
    errors.SlipwayError: 500,
    errors.ModelFailed: 500,
    errors.NotReady: 503,
    errors.ServerFull: 503,
    errors.DeadlineExceeded: 504,
    errors.LoadTimedOut: 504,
    errors.UnsupportedVersion: 505,
    errors.OutOfMemory: 507,
}

log = logging.getLogger("slipway.failure")

VERSION_STATUS = 505
LONGEST_ID = 128
TARGET_MODEL = b"x-amzn-sagemaker-target-model"
"""The client's name of a model on a multi-model endpoint. Metrics have no such label: its values have no bound."""

_process = os.urandom(4).hex()
_numbers = itertools.count(1)


def send_failure(error: SlipwayError, head: Head, responder: Responder) -> None:
    """Send an error as one small JSON object: ``error`` (the message), ``code``, ``request_id``."""
    headers: Headers = []
    if isinstance(error, errors.Overloaded):
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    elif isinstance(error, (errors.NotReady, errors.ServerFull)):
        headers.append((b"retry-after", b"1"))
    elif isinstance(error, errors.Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    status, identity = status_of(error), request_id(head)
    # Retryable failures are frequent under load, and another version of HTTP is the client's error. The others need an
    # operator.
    if status >= 500 and not error.retryable and status != VERSION_STATUS:
        target = head.get(TARGET_MODEL)
        model = f" target_model={target[:LONGEST_ID].decode('latin-1')!r}" if target else ""
        log.warning("request failed id=%s%s status=%d code=%s: %s", ascii(identity), model, status, error.code, error)
    responder.send(status, JSON, body_of(error, identity), headers)
    release(error)


def checked(handler: Handler, check: Callable[[Head], None]) -> Handler:
    """A handler that sends the error of ``check``, or passes the request on to ``handler``."""

    def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
        try:
            check(head)
        except SlipwayError as error:
            send_failure(error, head, responder)
            return None
        return handler(head, body, responder)

    return handle


def refuse(error: SlipwayError, lifecycle: Lifecycle, metrics: Metrics, head: Head, responder: Responder) -> None:
    """Count and send the refusal of a request without a model."""
    error = lifecycle.instead_of(error)
    metrics.refused[error.code] += 1
    send_failure(error, head, responder)


def status_of(error: SlipwayError) -> int:
    """The status code of an error's class, or of its nearest base class in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def body_of(error: SlipwayError, identity: str) -> bytes:
    """The JSON body of an error response."""
    message = str(error).encode(errors="replace").decode()  # JSON cannot hold a lone surrogate, which it may quote
    return orjson.dumps({"error": message, "code": error.code, "request_id": identity})


def request_id(head: Head) -> str:
    """The client's id of the request, or a new one."""
    return given_id(head) or f"{_process}-{next(_numbers):x}"


def given_id(head: Head) -> str:
    """The client's id of the request, empty if it sent none."""
    for name in REQUEST_ID_HEADERS:
        value = head.get(name)
        if value:
            return value[:LONGEST_ID].decode("latin-1")
    return ""
