"""From an error of ours to an HTTP answer: the one place where codes become status codes."""

from __future__ import annotations

import itertools
import logging
import os

import orjson

from .. import errors
from ..errors import SlipwayError
from ..request import REQUEST_ID_HEADERS, Head, Headers
from . import JSON, Responder

STATUS: dict[type[SlipwayError], int] = {
    errors.MalformedInput: 400,
    errors.UnknownModel: 404,
    errors.NoSuchArtifact: 404,
    errors.NotAcceptable: 406,
    errors.SlowRequest: 408,
    errors.AlreadyLoaded: 409,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.UnprocessableInput: 422,
    errors.BrokenArtifact: 422,
    errors.Overloaded: 429,
    errors.ClientGone: 499,
    errors.SlipwayError: 500,
    errors.ModelFailed: 500,
    errors.NotReady: 503,
    errors.DeadlineExceeded: 504,
    errors.OutOfMemory: 507,
}

log = logging.getLogger("slipway.failure")

LONGEST_ID = 128
TARGET_MODEL = b"x-amzn-sagemaker-target-model"
"""What people call a model of a multi-model endpoint. In the log only: as a label of metrics it would have no bound."""

_process = os.urandom(4).hex()
_numbers = itertools.count(1)


def send_failure(error: SlipwayError, head: Head, responder: Responder) -> None:
    """Send an error as one small JSON object: ``error`` (the message), ``code``, ``request_id``."""
    headers: Headers = []
    if isinstance(error, errors.Overloaded):
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    elif isinstance(error, errors.NotReady):
        headers.append((b"retry-after", b"1"))
    status, identity = status_of(error), request_id(head)
    if status >= 500 and not error.retryable:  # the others are the weather; these somebody will look for
        target = head.get(TARGET_MODEL)
        asked = f" for {target[:LONGEST_ID].decode('latin-1')!r}" if target else ""
        log.warning("request %s%s failed with %d %s: %s", ascii(identity), asked, status, error.code, error)
    responder.send(status, JSON, body_of(error, identity), headers)


def status_of(error: SlipwayError) -> int:
    """The status code of an error: its class's, or that of the nearest class above it."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def body_of(error: SlipwayError, identity: str) -> bytes:
    message = str(error).encode(errors="replace").decode()  # it may quote a half of a surrogate pair, which JSON cannot
    return orjson.dumps({"error": message, "code": error.code, "request_id": identity})


def request_id(head: Head) -> str:
    """The caller's own id of the request, or a new one."""
    return given_id(head) or f"{_process}-{next(_numbers):x}"


def given_id(head: Head) -> str:
    """The caller's own id of the request; empty where it gave none."""
    for name in REQUEST_ID_HEADERS:
        value = head.get(name)
        if value:
            return value[:LONGEST_ID].decode("latin-1")
    return ""
