"""The capture of requests and responses: of tensors where they are sent, of scripts and streams at their responder."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Callable
from pathlib import Path
from time import time_ns
from urllib.parse import urlsplit

from ..errors import BadSetting, SlipwayError
from ..models import ServedModel
from ..observe.capture.feed import Feed
from ..request import Head, Headers
from ..settings.options import Settings
from . import NO_HEADERS, Responder
from .responder import Outlet, Source

CALL_TYPE = (b"content-type", b"application/grpc")
"""Of a serialized ModelInferRequest, as calls over gRPC do not say; its response has the same media type."""


class Capture:
    """Takes a share of the successful requests of the models that have it."""

    def __init__(self, feed: Feed, percent: float, draw: Callable[[], float] = random.random) -> None:
        """``percent``: share of requests, 0 to 100. ``draw`` returns numbers in [0, 1)."""
        self.feed = feed
        self._share = percent / 100
        self._draw = draw

    def wants(self) -> bool:
        """Whether the next request is captured."""
        return self._share >= 1 or self._draw() < self._share

    def take(
        self, model: ServedModel, asked: Headers, body: bytes, content_type: bytes, answer: bytes, told: Headers
    ) -> None:
        """Give a request and its response to the feed."""
        if content_type == CALL_TYPE[1]:
            asked = [*asked, CALL_TYPE]
        self.feed.take((time_ns(), model.name, model.version, asked, body, content_type, answer, told))

    def around(self, model: ServedModel, head: Head, body: bytes, responder: Responder) -> Responder:
        """A responder that takes the response of a wanted request as it passes, whole or in chunks."""
        return Tap(self, model, head.headers, body, responder) if self.wants() else responder


class Tap:
    """A responder that passes the response on, and takes a copy of it."""

    def __init__(self, capture: Capture, model: ServedModel, asked: Headers, body: bytes, responder: Responder) -> None:
        self._capture = capture
        self._request = model, asked, body
        self._responder = responder

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        self._responder.send(status, content_type, body, headers)
        if 200 <= status < 300:
            self.take(content_type, body, headers)

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> Outlet | None:
        outlet = self._responder.begin_stream(status, content_type, headers, source)
        if outlet is None or not 200 <= status < 300:
            return outlet
        return TapOutlet(self, outlet, content_type, headers, self._capture.feed.body_bytes)

    def take(self, content_type: bytes, body: bytes, headers: Headers) -> None:
        """Give the request and its response to the capture."""
        self._capture.take(*self._request, content_type, body, headers)


class TapOutlet:
    """A streamed response that is passed on; its chunks are captured as one body, if they are not too large."""

    def __init__(self, tap: Tap, outlet: Outlet, content_type: bytes, headers: Headers, max_bytes: int) -> None:
        self._tap = tap
        self._outlet = outlet
        self._told = content_type, headers
        self._max_bytes = max_bytes
        self._chunks = bytearray()

    @property
    def writable(self) -> bool:
        return self._outlet.writable

    def write(self, chunk: bytes) -> None:
        if len(self._chunks) <= self._max_bytes:  # one chunk beyond the bound: the feed counts it as too large
            self._chunks += chunk
        self._outlet.write(chunk)

    def end(self) -> None:
        self._outlet.end()
        self._tap.take(self._told[0], bytes(self._chunks), self._told[1])

    def fail(self, error: SlipwayError) -> None:
        self._outlet.fail(error)


def capture_of(settings: Settings, later: Callable[[float, Callable[[], None]], object]) -> Capture:
    """The capture of a server, started. ``later`` calls on the event loop after some seconds. Raises BadSetting for a
    place that cannot be written to."""
    to = settings.capture_to
    if to.startswith("s3://"):
        if not urlsplit(to).netloc:
            raise BadSetting(f"--capture-to {to} names no bucket; write s3://BUCKET/PREFIX")
        if importlib.util.find_spec("boto3") is None:
            raise BadSetting("--capture-to an S3 location needs boto3; install the extra s3, or name a folder")
    elif "://" in to:
        raise BadSetting(f"--capture-to {to} is no folder and no s3:// location")
    else:
        _require_folder(Path(to))
    if settings.capture_percent > 100:
        raise BadSetting("--capture-percent must be at most 100")
    options = {
        "to": to,
        "mode": settings.capture_mode,
        "redact": settings.capture_redact,
        "body_bytes": int(settings.capture_body_mb * 1e6),
        "disk_bytes": int(settings.capture_disk_mb * 1e6),
    }
    feed = Feed(options, int(settings.capture_queue_mb * 1e6), later)
    feed.start()
    return Capture(feed, settings.capture_percent)


def _require_folder(path: Path) -> None:
    """Make the folder. Raises BadSetting if this process cannot write there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"--capture-to {path}: {error.strerror}; name a folder that can be written to") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise BadSetting(f"--capture-to {path} cannot be written to; name another folder")
