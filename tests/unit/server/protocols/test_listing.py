"""Listings of many models: a few entries a turn of the event loop, the text on another thread."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import orjson
import pytest

from server.models import Models
from server.models.versions import State
from server.protocols.guard import Guard
from server.protocols.listing import IN_A_TURN, send_listing
from server.protocols.open_inference.repository import Repository
from server.protocols.sagemaker.multi_model import MultiModel
from server.request import ColdHead, Head
from tests.fakes import FakeResponder

HEAD = Head(b"POST", b"/listing", [])


@dataclass(frozen=True)
class FakeFound:
    path: str
    given: str = ""


@dataclass(frozen=True)
class FakeVersions:
    """One model with one version; ``read`` is called whenever somebody reads it."""

    name: str
    read: Callable[[], None]
    version: str = "1"
    state: State = State.READY
    reason: str = ""

    @property
    def found(self) -> FakeFound:
        return FakeFound(f"/models/{self.name}")

    def rows(self) -> list[FakeVersions]:
        self.read()
        return [self]

    ready = rows


class FakeRegistry:
    """The registry of so many models, which counts how often they are read."""

    def __init__(self, models: int) -> None:
        self.reads = 0
        self._models = [FakeVersions(f"m{number:04}", self._read) for number in range(models)]

    def _read(self) -> None:
        self.reads += 1

    def known(self) -> list[FakeVersions]:
        return list(self._models)


class EmptyFolder:
    """A follower of a folder without models."""

    async def on_disk(self) -> list[Any]:
        return []


def repository_index(registry: FakeRegistry) -> Callable[[Head, bytes, FakeResponder], None]:
    return Repository(cast(Models, registry), cast(Any, EmptyFolder()), cast(Any, None), Guard(), cast(Any, None)).index


def multi_model_index(registry: FakeRegistry) -> Callable[[Head, bytes, FakeResponder], None]:
    return MultiModel(cast(Models, registry), cast(Any, None), cast(Any, None), Guard()).index


INDEXES = {"repository": repository_index, "multi-model": multi_model_index}


def answered(index: Callable[[Head, bytes, FakeResponder], None], seen: Callable[[], None]) -> Any:
    """The document of a listing; ``seen`` is called in every turn of the event loop until it is there."""

    async def scenario() -> bytes:
        end: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        index(HEAD, b"", FakeResponder(sent=lambda _status, body: end.set_result(body)))
        while not end.done():
            seen()
            await asyncio.sleep(0)
        return end.result()

    return orjson.loads(asyncio.run(scenario()))


@pytest.mark.parametrize("kind", INDEXES)
def test_the_loop_goes_on_between_the_entries_of_many_models(kind: str) -> None:
    registry, seen = FakeRegistry(5 * IN_A_TURN), [0]
    found = answered(INDEXES[kind](registry), lambda: seen.append(registry.reads))
    seen.append(registry.reads)
    rows = found if isinstance(found, list) else found["models"]
    assert len(rows) == 5 * IN_A_TURN
    a_turn = max(after - before for before, after in itertools.pairwise(seen))
    assert a_turn <= 2 * IN_A_TURN  # whether a version is ready, and its row


def _ask(
    index: Callable[[Head, bytes, FakeResponder], None], head: Head, _: Head, body: bytes, to: FakeResponder
) -> None:
    index(head, body, to)


def test_a_page_names_the_next_one_only_where_there_is_one() -> None:
    index = multi_model_index(FakeRegistry(250))
    pages = []
    for query in ("limit=100", "limit=100&next_page_token=100", "limit=100&next_page_token=200"):
        one = ColdHead(b"GET", b"/models", [], 0, query.encode())
        pages.append(answered(partial(_ask, index, one), lambda: None))
    assert [len(page["models"]) for page in pages] == [100, 100, 50]
    assert [page.get("nextPageToken") for page in pages] == ["100", "200", None]


@pytest.mark.parametrize(("entries", "threads"), [(IN_A_TURN - 1, 0), (IN_A_TURN, 1), (10 * IN_A_TURN, 1)])
def test_a_long_text_is_made_on_another_thread(entries: int, threads: int) -> None:
    others: list[int] = []

    def text(rows: list[int]) -> bytes:
        if threading.current_thread() is not threading.main_thread():
            others.append(len(rows))
        return orjson.dumps(rows)

    index = lambda head, _body, responder: send_listing(iter(range(entries)), text, head, responder)  # noqa: E731
    assert answered(index, lambda: None) == list(range(entries))
    assert others == [entries] * threads


@pytest.mark.parametrize("at", [0, IN_A_TURN + 1])
@pytest.mark.parametrize("fails", ["entry", "text"])
def test_what_fails_is_a_response(fails: str, at: int) -> None:
    def entries() -> Iterator[int]:
        yield from range(at)
        if fails == "entry":
            raise KeyError

    def text(_rows: list[int]) -> bytes:
        raise KeyError

    index = lambda head, _body, responder: send_listing(entries(), text, head, responder)  # noqa: E731
    assert answered(index, lambda: None)["code"] == "internal"
