"""The capture of requests and responses: at the handlers of inference routes, and of calls over gRPC."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import time_ns
from urllib.parse import urlsplit

from ..errors import BadSetting, SlipwayError
from ..models import Models, ServedModel
from ..observe.capture.feed import Feed
from ..request import Head, Headers, InferRequest
from ..settings.options import Settings
from . import NO_HEADERS, Handler, Responder, Route
from .exchange import Exchange
from .responder import Outlet, Source

CALLS = b"/inference.GRPCInferenceService/"
"""The paths of calls over gRPC."""
CALL_TYPE = (b"content-type", b"application/grpc")
"""A serialized ModelInferRequest; its response has the same media type."""


class Capture:
    """Takes a share of the successful requests of the handlers that it is put around."""

    def __init__(self, feed: Feed, percent: float, models: Models, draw: Callable[[], float] = random.random) -> None:
        """``percent``: share of requests, 0 to 100. ``draw`` returns numbers in [0, 1)."""
        self.feed = feed
        self._models = models
        self._share = percent / 100
        self._draw = draw

    def around(self, handler: Handler, name: str = "") -> Handler:
        """A handler that captures what ``handler`` answers. ``name``: the URL's model; empty: the default model."""
        feed, share, draw, models = self.feed, self._share, self._draw, self._models

        def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
            if share < 1 and draw() >= share:
                return handler(head, body, responder)
            tap = Tap(feed, name, head.headers, body, responder)
            pending = handler(head, body, tap)
            if pending is not None and isinstance(pending.context, Exchange):
                tap.model = pending.context.model
            tap.answers(models)
            return pending

        return handle

    def call(self, model: ServedModel, head: Head, body: bytes, responder: Responder) -> Responder:
        """The responder of a call over gRPC, which no route captures. Other requests keep theirs."""
        if not head.path.startswith(CALLS) or (self._share < 1 and self._draw() >= self._share):
            return responder
        tap = Tap(self.feed, model.name, [*head.headers, CALL_TYPE], body, responder)
        tap.model = model
        tap.answers(self._models)
        return tap

    def route(self, route: Route) -> Route:
        """A route whose handlers are captured."""

        def bind(values: dict[str, str]) -> Handler:
            return self.around(route.bind(values), values.get("name", ""))

        return replace(route, bind=bind)


class Tap:
    """A responder that passes the response on, and takes a copy of it."""

    __slots__ = ("_body", "_feed", "_headers", "_kept", "_known", "_name", "_responder", "model")

    def __init__(self, feed: Feed, name: str, headers: Headers, body: bytes, responder: Responder) -> None:
        """``name``: the URL's model; empty: the default one."""
        self._feed = feed
        self._name = name
        self._headers = headers
        self._body = body
        self._responder = responder
        self._known = False
        self._kept: tuple[bytes, bytes, Headers] | None = None  # a response that was sent before the model was known
        self.model: ServedModel | None = None
        """The model of the request, where it is one of tensors."""

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        self._responder.send(status, content_type, body, headers)
        if 200 <= status < 300:
            if self._known:
                self.take(content_type, body, headers)
            else:
                self._kept = content_type, body, headers

    def begin_stream(self, status: int, content_type: bytes, headers: Headers, source: Source, /) -> Outlet | None:
        outlet = self._responder.begin_stream(status, content_type, headers, source)
        if outlet is None or not 200 <= status < 300:
            return outlet
        return TapOutlet(self, outlet, content_type, headers, self._feed.body_bytes)

    def answers(self, models: Models) -> None:
        """The model is known from now on: that of the request, or that of the URL."""
        self._known = True
        if self.model is None and not self._name:  # streams of rows, and compressed bodies
            with contextlib.suppress(SlipwayError):
                self._name = models.default().name
        if self._kept is not None:
            self.take(*self._kept)

    def take(self, content_type: bytes, body: bytes, headers: Headers) -> None:
        """Give the request and its response to the feed."""
        model = self.model
        name, version = (self._name, "") if model is None else (model.name, model.version)
        # Names as bytes, because texts take longer to write.
        names = name.encode("utf-8", "replace"), version.encode("utf-8", "replace")
        self._feed.take((time_ns(), *names, self._headers, self._body, content_type, body, headers))


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


def capture_of(settings: Settings, models: Models) -> Capture:
    """The capture of a server, started. Raises BadSetting for a place that cannot be written to."""
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
    feed = Feed(options, int(settings.capture_queue_mb * 1e6))
    feed.start()
    return Capture(feed, settings.capture_percent, models)


def _require_folder(path: Path) -> None:
    """Make the folder. Raises BadSetting if this process cannot write there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"--capture-to {path}: {error.strerror}; name a folder that can be written to") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise BadSetting(f"--capture-to {path} cannot be written to; name another folder")
