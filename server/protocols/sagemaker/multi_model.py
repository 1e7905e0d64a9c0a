"""SageMaker's multi-model endpoints: the platform loads, lists, unloads and invokes models under names of its own.

The platform decides which models stay in memory. The server evicts none; it refuses a model that does not fit with 507,
after which the platform unloads another one and retries. Model names are hashes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson

from ...errors import AlreadyLoaded, MalformedInput, SlipwayError, UnknownModel
from ...models import Models
from ...models.changes import Changes
from ...models.names import check_name, shown
from ...models.versions import Versions
from ...request import Head
from .. import JSON, Handler, Responder, Route
from ..background import Background
from ..failure import send_failure
from ..guard import Guard
from ..listing import send_listing
from .invocations import BODIES, SageMaker

TAG = "SageMaker multi-model"
ONE = "/models/{name}"
USUAL_PAGE, LARGEST_PAGE = 100, 1_000
LOAD_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"example": {"model_name": "h", "url": "/opt/ml/models/h/model"}}},
}


class MultiModel:
    """The routes under ``/models``. A load or unload continues if its client leaves."""

    def __init__(self, models: Models, changes: Changes, front: SageMaker, guard: Guard) -> None:
        """``front`` handles ``/models/{name}/invoke`` as it handles ``/invocations``. ``guard`` checks requests to the
        other routes."""
        self._models = models
        self._changes = changes
        self._front = front
        self._guard = guard
        self._changing: set[str] = set()
        self._background = Background()

    def routes(self) -> list[Route]:
        around = self._guard.around
        return [
            Route("/models", ("GET",), lambda _: around(self.index), "All loaded models, page by page", TAG),
            Route(
                "/models",
                ("POST",),
                lambda _: around(self.load),
                "Load a model from a path of this machine",
                TAG,
                description="409: the name is loaded, or is being loaded. 507: the model does not fit; unload another.",
                request_body=LOAD_BODY,
            ),
            Route(
                ONE,
                ("GET",),
                lambda path: around(self._describe(path)),
                "Whether a model is loaded, and from where",
                TAG,
            ),
            Route(
                ONE,
                ("DELETE",),
                lambda path: around(self._unload(path)),
                "Unload; responds when the memory is freed",
                TAG,
            ),
            Route(ONE + "/invoke", ("POST",), self._invoke, "Run a model", TAG, request_body=BODIES),
        ]

    def index(self, head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG002 - the handler's signature
        """Loaded models, sorted by name. The token of the next page is the index of its first model."""
        try:
            query = dict(parse_qsl(head.query.decode("latin-1")))
            begin = _number(query.get("next_page_token", "0"), "next_page_token", 0)
            limit = min(_number(query.get("limit", str(USUAL_PAGE)), "limit", 1), LARGEST_PAGE)
        except SlipwayError as error:
            send_failure(error, head, responder)
            return
        end = begin + limit

        def page(loaded: list[dict[str, str]]) -> bytes:
            more = {"nextPageToken": str(end)} if end < len(loaded) else {}
            return orjson.dumps({"models": loaded[begin:end], **more})

        by_name = sorted(self._models.known(), key=lambda one: one.name)
        send_listing((_row(one) for one in by_name if one.ready()), page, head, responder)

    def load(self, head: Head, body: bytes, responder: Responder) -> None:
        """Load a model from a path; responds when it is warm."""
        try:
            name, path = _asked(body)
        except SlipwayError as error:
            send_failure(error, head, responder)
            return
        work = partial(self._load_one, name, path)
        self._background.respond(head, responder, work, b'{"status":"Workers scaled"}')

    async def _load_one(self, name: str, path: Path) -> None:
        if name in self._changing:
            raise AlreadyLoaded(f"model {name!r} is being loaded or unloaded; retry later")
        if any(one.name == name and one.ready() for one in self._models.known()):
            raise AlreadyLoaded(f"model {name!r} is loaded already")
        self._changing.add(name)
        try:
            await self._changes.make("load", path=str(path), name=name, pinned=True, forget=True)
        finally:
            self._changing.discard(name)

    def _unload(self, path: dict[str, str]) -> Handler:
        name = path["name"]
        done = orjson.dumps({"status": f'Model "{name}" unregistered'})

        async def work() -> None:
            if name in self._changing:
                raise AlreadyLoaded(f"model {name!r} is being loaded or unloaded; retry later")
            self._changing.add(name)
            try:
                await self._changes.make("unload", name=name, forget=True)
            finally:
                self._changing.discard(name)

        return lambda head, _body, responder: self._background.respond(head, responder, work, done)

    def _describe(self, path: dict[str, str]) -> Handler:
        def handle(head: Head, body: bytes, responder: Responder) -> None:  # noqa: ARG001 - the handler's signature
            name = path["name"]
            try:
                versions = self._models.of(name)
                if not versions.ready():
                    raise UnknownModel(f"model {name!r} is not loaded")
            except SlipwayError as error:
                send_failure(error, head, responder)
            else:
                responder.send(200, JSON, orjson.dumps(_row(versions)))

        return handle

    def _invoke(self, path: dict[str, str]) -> Handler:
        name = path["name"]
        return self._front.handler_for(lambda head: self._models.ask(name, head))


def _row(versions: Versions) -> dict[str, str]:
    found = versions.ready()[0].found
    return {"modelName": versions.name, "modelUrl": shown(str(found.given or found.path))}


def _asked(body: bytes) -> tuple[str, Path]:
    """Name and path in the body of a load. Raises MalformedInput."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedInput(f"the body is not JSON: {error}") from error
    name, url = (fields.get("model_name"), fields.get("url")) if isinstance(fields, dict) else (None, None)
    if not (isinstance(name, str) and isinstance(url, str)):
        raise MalformedInput('the body must be an object with "model_name" and "url", a path of this machine')
    if not url.startswith("/") or "\0" in url:
        raise MalformedInput('"url" must be an absolute path of this machine, such as /opt/ml/models/NAME/model')
    return check_name(name, '"model_name"'), Path(url)


def _number(text: str, what: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= least):
        raise MalformedInput(f"{what} must be a whole number of at least {least}, got {text[:40]!r}")
    return int(text)
