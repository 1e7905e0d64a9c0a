"""The dashboard: a page for browsers at ``/``, its files, and the JSON documents that feed it.

The page is static. It asks for one document every two seconds and keeps the figures of the last minutes itself, so that
a server without a viewer does no work for it.
"""

from __future__ import annotations

from collections.abc import Callable

from ...codecs.media import ranges
from ...lifecycle import Lifecycle
from ...models import Models
from ...observe.metrics import Metrics
from ...request import Head, InferRequest
from .. import Handler, Responder, Route
from ..guard import Guard
from ..listing import Gather, nobody
from .examples import example_of
from .files import FILES, HTML, PAGE, PAGE_HEADERS, contents, fixed
from .state import Scrape, States

TAG = "Dashboard"
EXAMPLE = "/dashboard/models/{name}/versions/{version}/example"


class Dashboard:
    """The page and its routes."""

    def __init__(
        self,
        models: Models,
        lifecycle: Lifecycle,
        metrics: Metrics,
        version: str,
        guard: Guard | None,
        scrape: Scrape | None = None,
        gather: Gather = nobody,
    ) -> None:
        """``guard``: that of the admin routes, which the page uses where they are served; None: they are not.
        ``scrape`` and ``gather``: those of :class:`States`."""
        admin = "off" if guard is None else "token" if guard.asks_browsers else "open"
        self._states = States(models, lifecycle, metrics, {"version": version, "admin": admin}, scrape, gather)
        self._models = models
        self._page = contents(PAGE)

    def front(self, other: Handler) -> Handler:
        """A handler of ``/``: the page for clients that accept HTML by name, which browsers do, else ``other``."""

        def handle(head: Head, body: bytes, responder: Responder) -> InferRequest | None:
            if not accepts_html(head.get(b"accept") or b""):
                return other(head, body, responder)
            responder.send(200, HTML, self._page, PAGE_HEADERS)
            return None

        return handle

    def routes(self) -> list[Route]:
        """The routes of the page's files and documents."""
        get = ("GET",)
        return [
            *(Route(path, get, _bound(fixed(path)), "A file of the dashboard", TAG) for path in FILES),
            Route("/dashboard/state", get, lambda _: self._states.ask, "Models and figures of the dashboard", TAG),
            Route(EXAMPLE, get, self._example, "Inputs of one request that a model takes", TAG, hot=False),
        ]

    def _example(self, path: dict[str, str]) -> Handler:
        return example_of(self._models, path["name"], path["version"])


def accepts_html(accept: bytes) -> bool:
    """Whether an ``Accept`` field names ``text/html`` and does not refuse it with a quality of zero."""
    return any(name == "text/html" and weight > 0 for name, weight in ranges(accept.decode("latin-1")))


def _bound(handler: Handler) -> Callable[[dict[str, str]], Handler]:
    return lambda _: handler
