"""The FastAPI application, built when the first request needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ..models import Models
from ..models.changes import Changes
from ..protocols import Route
from ..protocols.guard import Guard

if TYPE_CHECKING:
    from ..protocols.listing import Gather


class LateApp:
    """FastAPI, built when the first request needs it: a process that only answers hot routes never imports it.

    It is built on another thread, because the import takes half a second and hot requests are answered meanwhile.
    """

    def __init__(
        self,
        routes: list[Route],
        version: str,
        max_body_bytes: int,
        models: Models,
        changes: Changes,
        guard: Guard | None,
        gather: Gather | None = None,
    ) -> None:
        """``changes``: those of ``models``, which the admin API makes. ``guard``: protects it; None: there is no admin
        API. ``gather``: asks the other processes of this server how they see the models; None: there is none."""
        self._routes = routes
        self._version = version
        self._models = models
        self._changes = changes
        self._gather = gather
        self._guard = guard
        self._max_body_bytes = max_body_bytes
        self._app: asyncio.Future[Callable[..., Awaitable[None]]] | None = None

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        if self._app is None:
            self._app = asyncio.get_running_loop().run_in_executor(None, self._build)
        app = await asyncio.shield(self._app)
        await app(scope, receive, send)

    def _build(self) -> Callable[..., Awaitable[None]]:
        from ..protocols.listing import nobody
        from .admin import Admin
        from .app import build

        administration = Admin(self._models, self._changes, self._gather or nobody)
        return build(self._routes, self._version, self._max_body_bytes, administration, self._guard)
