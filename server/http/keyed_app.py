"""The check of API keys in front of the FastAPI application; the hot routes are checked by their handlers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import SlipwayError
from ..protocols import NO_HEADERS
from ..protocols.api_keys import OPEN, ApiKeys
from ..protocols.failure import send_failure
from ..protocols.responder import Source
from ..request import Head, Headers

App = Callable[[Any, Any, Any], Awaitable[None]]


class KeyedApp:
    """An ASGI application whose routes need a key, except those that are open."""

    def __init__(self, app: App, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].rstrip("/") or "/"
        if path not in OPEN:
            head = Head(scope["method"].encode(), scope["raw_path"], list(scope["headers"]))
            try:
                self._keys.check(head)
            except SlipwayError as error:
                response = Whole()
                send_failure(error, head, response)
                await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
                await send({"type": "http.response.body", "body": response.body})
                return
        await self._app(scope, receive, send)


class Whole:
    """A responder that keeps the response."""

    status = 500
    body = b""
    headers: Headers

    def send(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None:
        length = (b"content-length", b"%d" % len(body))
        self.status, self.body = status, body
        self.headers = [(b"content-type", content_type), length, *headers]

    def begin_stream(self, _status: int, _content_type: bytes, _headers: Headers, _source: Source, /) -> None:
        """Return None: the response is sent whole."""
