"""Loads that never end: they get their answer, and hold up no other load, no poll of the folder, and not the end."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server.artifact import Artifact
from server.errors import BrokenArtifact, LoadTimedOut, NotReady
from server.models import LoadOptions, Models, ServedModel, load_threads
from server.models import follower as following
from server.models.follower import Follower
from server.models.load_threads import LoadThreads
from server.models.versions import State
from server.settings.options import Settings
from tests.fake_models import FakeLoader, fake_models, session_of, version_folder

BRIEF_S = 0.02
"""A turn, or a poll's patience, that a load that hangs exceeds at once."""

LIMIT_S = 600.0
"""The time limit of loads where :class:`HangingLoader` says when it has passed."""


def wait_as_native_code(loop: asyncio.AbstractEventLoop, begun: asyncio.Event, let_go: threading.Event) -> None:
    """Set ``begun``, and wait without seeing an interrupt."""
    try:
        loop.call_soon_threadsafe(begun.set)
        let_go.wait(30)
    except SystemExit:
        let_go.wait(30)


class HangingLoader(FakeLoader):
    """Models named ``hangs`` do not load until they are let go. :meth:`sleep` ends when one hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = asyncio.Event()
        self.let_go = threading.Event()

    async def sleep(self, _seconds: float) -> None:
        await self.hangs.wait()

    def build(self, artifact: Artifact, loop: asyncio.AbstractEventLoop) -> ServedModel:
        if artifact.manifest.name.startswith("hangs"):
            wait_as_native_code(loop, self.hangs, self.let_go)
        return super().build(artifact, loop)


@pytest.fixture
def loader() -> Iterator[HangingLoader]:
    one = HangingLoader()
    yield one
    one.let_go.set()


def with_limit(loader: HangingLoader, limit_s: float = LIMIT_S, turn_s: float = 30.0) -> Models:
    models, _ = fake_models(loader)
    models.loads = LoadThreads(limit_s, turn_s, loader.sleep)
    return models


async def load(models: Models, root: Path, name: str) -> ServedModel:
    return await models.load(version_folder(root, name, "1"), LoadOptions(), name=name, version="1")


async def begin_to_hang(models: Models, loader: HangingLoader, root: Path, name: str = "hangs") -> asyncio.Task[object]:
    task: asyncio.Task[object] = asyncio.ensure_future(load(models, root, name))
    await loader.hangs.wait()
    return task


async def test_a_load_that_hangs_is_given_up_counted_and_named_until_its_thread_ends(
    tmp_path: Path, loader: HangingLoader
) -> None:
    models = with_limit(loader)
    with pytest.raises(LoadTimedOut, match=r"'hangs' did not load within 600 s.* raise --load-timeout-s"):
        await load(models, tmp_path, "hangs")
    one = models.of("hangs").known["1"]
    assert (one.state, "did not load within" in one.reason) == (State.UNAVAILABLE, True)
    assert models.loads.hanging == ["hangs"]
    counted, hanging = models.loads.families()
    assert counted.samples[0].value == 1
    assert [(sample.labels, sample.value) for sample in hanging.samples] == [({"model": "hangs"}, 1)]
    (thread,) = models.loads._hanging
    loader.let_go.set()
    await asyncio.to_thread(thread.join)
    assert models.loads.hanging == []
    assert models.all() == []
    assert [session_of(model).closed for model in loader.built] == [1]
    await models.close()


async def test_what_native_code_returns_after_it_was_given_up_is_freed() -> None:
    loop, begun, let_go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    loads = LoadThreads(LIMIT_S, sleep=lambda _seconds: begun.wait())
    freed: list[str] = []

    def native() -> str:
        wait_as_native_code(loop, begun, let_go)
        return "a model"

    with pytest.raises(LoadTimedOut):
        await loads.run("m", native, freed.append)
    (thread,) = loads._hanging
    let_go.set()
    await asyncio.to_thread(thread.join)
    assert (freed, loads.hanging) == (["a model"], [])


async def test_a_load_that_hangs_holds_others_up_for_its_turn_only(tmp_path: Path, loader: HangingLoader) -> None:
    models = with_limit(loader, 0.0, turn_s=BRIEF_S)
    hangs = await begin_to_hang(models, loader, tmp_path)
    assert (await load(models, tmp_path, "m")).name == "m"
    await models.unload("m")
    assert not hangs.done()
    loader.let_go.set()
    await hangs
    assert models.get("hangs").version == "1"
    await models.close()


async def test_a_load_has_the_machine_to_itself_during_its_turn(tmp_path: Path, loader: HangingLoader) -> None:
    models = with_limit(loader, 0.0)
    hangs = await begin_to_hang(models, loader, tmp_path)
    other = asyncio.ensure_future(load(models, tmp_path, "m"))
    await asyncio.to_thread(version_folder, tmp_path, "n", "1")
    assert not other.done()
    loader.let_go.set()
    await hangs
    await other
    await models.close()


async def test_the_end_of_the_server_waits_for_no_load(tmp_path: Path, loader: HangingLoader) -> None:
    models = with_limit(loader, 0.0)
    hangs = await begin_to_hang(models, loader, tmp_path)
    waits = asyncio.ensure_future(load(models, tmp_path, "m"))
    await models.close()
    for one in (hangs, waits):
        with pytest.raises(NotReady, match="stopping"):
            await one


async def test_no_load_begins_while_too_many_hang(
    tmp_path: Path, loader: HangingLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_threads, "MOST_HANGING", 2)
    models = with_limit(loader)
    for name in ("hangs-1", "hangs-2"):
        loader.hangs.clear()
        with pytest.raises(LoadTimedOut):
            await load(models, tmp_path, name)
    with pytest.raises(NotReady, match="restart the server"):
        await load(models, tmp_path, "m")
    threads = list(models.loads._hanging)
    loader.let_go.set()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    loader.hangs.clear()
    assert (await load(models, tmp_path, "m")).name == "m"
    await models.close()


async def test_python_code_that_hangs_is_interrupted() -> None:
    loop, begun, ended = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    loads = LoadThreads(LIMIT_S, sleep=lambda _seconds: begun.wait())

    def spin() -> None:
        try:
            loop.call_soon_threadsafe(begun.set)
            while True:
                pass
        finally:
            ended.set()

    with pytest.raises(LoadTimedOut):
        await loads.run("spins", spin)
    assert await asyncio.to_thread(ended.wait, 30)


@pytest.mark.parametrize("error", [BrokenArtifact("no"), SystemExit(3), StopIteration()])
async def test_whatever_a_load_raises_ends_it(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises((BrokenArtifact, SystemExit, RuntimeError)):
        await LoadThreads().run("m", fail)


class Held:
    """Something large."""


async def test_the_thread_of_a_load_does_not_keep_what_it_has_loaded(
    no_collector: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, let_go = asyncio.get_running_loop(), threading.Event()
    post = loop.call_soon_threadsafe

    def slow(call: Callable[..., object], *args: Any) -> None:
        post(call, *args)
        let_go.wait(30)  # the last lines of the thread, on a busy machine

    monkeypatch.setattr(loop, "call_soon_threadsafe", slow)
    held = await LoadThreads().run("m", Held)
    seen = weakref.ref(held)
    del held
    try:
        assert any(thread.name == "load-m" for thread in threading.enumerate())
        assert seen() is None
    finally:
        let_go.set()


@pytest.mark.parametrize("error", [BrokenArtifact, ValueError, SystemExit, StopIteration])
async def test_what_a_failed_load_held_is_freed_without_the_garbage_collector(
    tmp_path: Path,
    loader: HangingLoader,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    no_collector: None,
    error: type[BaseException],
) -> None:
    caplog.set_level(logging.CRITICAL, "slipway.models")  # pytest keeps the tracebacks of what is logged
    seen: list[weakref.ref[Held]] = []

    def build(*_: Any) -> ServedModel:
        held = Held()
        seen.append(weakref.ref(held))
        try:
            raise KeyError
        except KeyError:
            raise error from None

    monkeypatch.setattr(loader, "build", build)
    models = with_limit(loader, 0.0)
    with pytest.raises(BrokenArtifact):
        await load(models, tmp_path, "m")
    assert [one() for one in seen] == [None]
    await models.close()


async def test_a_poll_goes_on_without_the_load_that_hangs(
    tmp_path: Path, loader: HangingLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", BRIEF_S)
    models, _ = fake_models(loader, Settings(model=str(tmp_path)))
    models.loads = LoadThreads(0.0, turn_s=BRIEF_S)
    follower = Follower(models, Settings(model=str(tmp_path)))
    version_folder(tmp_path, "hangs", "1")
    await follower.refresh()
    version_folder(tmp_path, "m", "1")
    monkeypatch.setattr(following, "PATIENCE_S", 30.0)
    await follower.refresh()
    assert models.get("m").version == "1"
    assert models.of("hangs").loading
    loader.let_go.set()
    await asyncio.gather(*follower._loading)
    await models.close()
