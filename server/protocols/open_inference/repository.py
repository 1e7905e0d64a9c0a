"""The repository extension of the Open Inference Protocol: list, load and unload models."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from ...errors import MalformedInput, SlipwayError, UnknownModel
from ...models import Models
from ...models.changes import Changes
from ...models.follower import Follower
from ...models.names import shown
from ...models.repository import Found
from ...models.versions import State
from ...request import Head
from ...temporary_folder import SentFolder
from .. import Handler, Responder, Route
from ..background import Background
from ..compression import Account
from ..failure import send_failure
from ..guard import Guard
from ..listing import send_listing
from . import sent_files
from .configuration import configuration
from .load_parameters import read_overrides

EXTENSION = "model_repository"
TAG = "Open Inference Protocol"
ROOT = "/v2/repository/models/{name}"
ON_DISK = "it is in the model folder and not loaded"
EMPTY_BODY: dict[str, Any] = {"content": {"application/json": {"example": {}}}}
INDEX_BODY: dict[str, Any] = {"content": {"application/json": {"example": {"ready": True}}}}


class Repository:
    """The routes under ``/v2/repository``. ``load`` serves the newest versions on disk."""

    def __init__(self, models: Models, follower: Follower, changes: Changes, guard: Guard, account: Account) -> None:
        """``account``: of received bytes. It holds the body of a load until that is read, also if its client leaves."""
        self._account = account
        self._models = models
        self._follower = follower
        self._changes = changes
        self._guard = guard
        self._background = Background()

    def routes(self) -> list[Route]:
        post = ("POST",)
        return [
            Route(
                "/v2/repository/index",
                post,
                lambda _: self._guard.around(self.index, reads=True),
                "All models, versions and states",
                TAG,
                request_body=INDEX_BODY,
            ),
            Route(
                ROOT + "/load", post, self._load, "Serve the newest versions of a model", TAG, request_body=EMPTY_BODY
            ),
            Route(ROOT + "/unload", post, self._unload, "Unload all versions of a model", TAG, request_body=EMPTY_BODY),
        ]

    def index(self, head: Head, body: bytes, responder: Responder) -> None:
        try:
            only_ready = _fields(body).get("ready") is True
        except SlipwayError as error:
            send_failure(error, head, responder)
            return
        if only_ready:
            send_listing(self._rows(only_ready), orjson.dumps, head, responder)
            return

        def listed(on_disk: list[Found]) -> None:
            send_listing(self._rows(on_disk=on_disk), orjson.dumps, head, responder)

        self._background.run(head, responder, self._follower.on_disk, listed)

    def _rows(self, only_ready: bool = False, on_disk: Sequence[Found] = ()) -> Iterator[dict[str, str]]:
        """All versions that were loaded or should have been, then those on disk that nobody has tried to load."""
        known = set()
        for versions in self._models.known():
            for one in versions.rows():
                known.add((versions.name, one.version))
                if one.state is State.READY or not only_ready:
                    yield _row(versions.name, one.version, one.state, shown(one.reason))
        for found in on_disk:
            if (found.name, found.version) not in known:
                yield _row(found.name, found.version, State.UNAVAILABLE, ON_DISK)

    def _load(self, path: dict[str, str]) -> Handler:
        name = path["name"]

        async def load(body: bytes) -> None:
            self._account.move(size := len(body))
            try:
                question = await asyncio.to_thread(_load_of, body, name)
            finally:
                self._account.move(-size)
            del body  # it need not wait for the load
            if isinstance(question, SentFolder):
                try:
                    await self._changes.make("load_sent", name=name, path=str(question.path))
                finally:
                    await asyncio.to_thread(question.remove)  # a model that was loaded holds it
                return
            overrides = read_overrides(question, self._configuration(name), name)
            await self._changes.make("load_newest", name=name, overrides=asdict(overrides))

        return self._answering(load)

    def _unload(self, path: dict[str, str]) -> Handler:
        async def unload(body: bytes) -> None:
            await asyncio.to_thread(_parameters, body)
            await self._changes.make("unload", name=path["name"])

        return self._answering(unload)

    def _configuration(self, name: str) -> dict[str, Any]:
        """The configuration of a model, empty where it is not loaded."""
        try:
            return configuration(self._models.get(name), len(self._models.versions(name)))
        except UnknownModel:
            return {}

    def _answering(self, work: Callable[[bytes], Awaitable[object]]) -> Handler:
        """A handler that responds when the work is done, which gets the body.

        The work continues if the client leaves.
        """

        def handle(head: Head, body: bytes, responder: Responder) -> None:
            begun = work(body)  # which alone holds the body from now on
            self._background.respond(head, responder, lambda: begun, b"{}")

        return self._guard.around(handle)


def _row(name: str, version: str, state: State, reason: str) -> dict[str, str]:
    return {"name": name, "version": version, "state": state.value, "reason": reason}


def _load_of(body: bytes, name: str) -> dict[str, Any] | SentFolder:
    """The parameters of a load, or the folder of the files that they hold. Raises MalformedInput or OutOfMemory."""
    parameters = _parameters(body)
    return sent_files.write(parameters, name) if sent_files.are_sent(parameters) else parameters


def _parameters(body: bytes) -> dict[str, Any]:
    """The parameters of a call. Raises MalformedInput."""
    return _fields(body).get("parameters") or {}


def _fields(body: bytes) -> dict[str, Any]:
    """The JSON object of the body; an empty body is an empty object. Raises MalformedInput."""
    try:
        fields = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as error:
        raise MalformedInput(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("parameters", {}), dict):
        raise MalformedInput("the body must be one JSON object")
    return fields
