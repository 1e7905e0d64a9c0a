"""The protocols: which URL and header means what. No numerics here, and nothing of sockets or ASGI.

A handler takes the head and the body of a request and a ``reply`` to call exactly once, now or later, on the event
loop. It returns what it is waiting for, or None: whoever owns the connection marks that as abandoned when the client
leaves. The same handler runs below ASGI on the hot path, under FastAPI, and in tests without a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..request import Head, Headers, InferRequest

JSON = b"application/json"
NO_HEADERS: Headers = []


class Reply(Protocol):
    """Send the answer: status, content type, body, and further headers."""

    def __call__(self, status: int, content_type: bytes, body: bytes, headers: Headers = NO_HEADERS, /) -> None: ...


Handler = Callable[[Head, bytes, Reply], InferRequest | None]


@dataclass(frozen=True, slots=True)
class Route:
    """A URL and who answers it. ``path`` may hold ``{name}`` and ``{version}``, which ``bind`` is given as text.

    ``summary``, ``description`` and ``request_body`` are what the OpenAPI document shows.
    """

    path: str
    methods: tuple[str, ...]
    bind: Callable[[dict[str, str]], Handler]
    summary: str
    tag: str
    description: str = ""
    request_body: dict[str, Any] | None = None
