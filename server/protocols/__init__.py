"""The protocols: URLs, headers and JSON documents of each API. No numerics, no sockets, no ASGI.

A handler takes the head and the body of a request and a responder, which it uses exactly once, now or later, on the
event loop. It returns the request that it waits for, or None: the connection marks that request as abandoned when the
client leaves. The same handler runs below ASGI on the hot path, under FastAPI, and in tests without a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..request import Head, InferRequest
from .responder import NO_HEADERS, Responder

__all__ = ["JSON", "NO_HEADERS", "Handler", "Responder", "Route"]

JSON = b"application/json"

Handler = Callable[[Head, bytes, Responder], InferRequest | None]


@dataclass(frozen=True, slots=True)
class Route:
    """A URL and its handler. ``path`` may hold ``{name}``, ``{version}`` and ``{label}``; ``bind`` gets their values as
    text.

    ``summary``, ``description`` and ``request_body`` appear in the OpenAPI document. ``hot``: also served below ASGI.
    """

    path: str
    methods: tuple[str, ...]
    bind: Callable[[dict[str, str]], Handler]
    summary: str
    tag: str
    description: str = ""
    request_body: dict[str, Any] | None = None
    hot: bool = True
