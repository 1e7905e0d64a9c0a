"""The FastAPI application, built when the first request needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ..models import Models
from ..protocols import Route
from ..protocols.guard import Guard


class LateApp:
    """FastAPI, built when the first request needs it: a process that only answers hot routes never imports it.

    It is built on another thread, because the import takes half a second and hot requests are answered meanwhile.
    """

    def __init__(
        self, routes: list[Route], version: str, max_body_bytes: int, models: Models, guard: Guard | None
    ) -> None:
        """``models``: those that the admin API changes. ``guard``: protects it; None: there is no admin API."""
        self._routes = routes
        self._version = version
        self._models = models
        self._guard = guard
        self._max_body_bytes = max_body_bytes
        self._app: asyncio.Future[Callable[..., Awaitable[None]]] | None = None

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        if self._app is None:
            self._app = asyncio.get_running_loop().run_in_executor(None, self._build)
        app = await asyncio.shield(self._app)
        await app(scope, receive, send)

    def _build(self) -> Callable[..., Awaitable[None]]:
        from .app import build

        return build(self._routes, self._version, self._max_body_bytes, self._models, self._guard)
