"""The follower: memory becomes what the folder says, once, when asked, and again and again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from server.errors import BrokenArtifact, OutOfMemory, UnknownModel
from server.models import Models
from server.models.follower import Follower
from server.settings.options import Settings
from tests.fake_models import FakeLoader, fake_models, version_folder

Scene = Callable[[Models, Follower, FakeLoader], Awaitable[None]]


def play(root: Path, scene: Scene, *, keep: int = 1) -> None:
    async def go() -> None:
        loader = FakeLoader()
        settings = Settings(model=str(root), keep_versions=keep)
        models, _ = fake_models(loader, settings)
        await scene(models, Follower(models, settings), loader)
        await models.close()

    asyncio.run(go())


@pytest.mark.parametrize(("keep", "loaded"), [(1, ["3"]), (2, ["2", "3"]), (0, ["1", "2", "3"])])
def test_the_highest_versions_are_loaded_at_the_start(tmp_path: Path, keep: int, loaded: list[str]) -> None:
    for version in "123":
        version_folder(tmp_path, "m", version)

    async def scene(models: Models, follower: Follower, _loader: FakeLoader) -> None:
        await follower.load_all()
        assert models.versions("m") == loaded
        assert all(one.pinned for one in models.of("m").ready())

    play(tmp_path, scene, keep=keep)


def test_a_start_with_something_that_cannot_be_served_fails(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")

    async def scene(_models: Models, follower: Follower, loader: FakeLoader) -> None:
        loader.error = OutOfMemory("too large")
        with pytest.raises(OutOfMemory):
            await follower.load_all()

    play(tmp_path, scene)


def test_a_look_loads_what_is_new_and_changed_and_unloads_what_is_gone(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")

    async def scene(models: Models, follower: Follower, loader: FakeLoader) -> None:
        await follower.load_all()
        await follower.refresh()
        assert len(loader.built) == 1
        version_folder(tmp_path, "m", "2")
        version_folder(tmp_path, "n", "1")
        await follower.refresh()
        assert (models.versions("m"), models.versions("n")) == (["2"], ["1"])
        version_folder(tmp_path, "m", "2", b"another one")
        await follower.refresh()
        assert (models.get("m") is loader.built[-1], len(loader.built)) == (True, 4)
        shutil.rmtree(tmp_path / "m" / "2")
        await follower.refresh()
        assert models.versions("m") == ["1"]

    play(tmp_path, scene)


def test_what_fails_is_tried_again_only_when_its_files_change(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")

    async def scene(models: Models, follower: Follower, loader: FakeLoader) -> None:
        await follower.load_all()
        loader.error = BrokenArtifact("half a copy")
        version_folder(tmp_path, "m", "2")
        await follower.refresh()
        assert models.get("m").version == "1"
        loader.error = None
        await follower.refresh()
        assert models.get("m").version == "1"
        version_folder(tmp_path, "m", "2", b"the whole copy")
        await follower.refresh()
        assert models.get("m").version == "2"

    play(tmp_path, scene)


def test_what_somebody_has_unloaded_stays_so_until_its_files_change(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")

    async def scene(models: Models, follower: Follower, _loader: FakeLoader) -> None:
        await follower.load_all()
        await models.unload("m")
        await follower.refresh()
        assert models.all() == []
        version_folder(tmp_path, "m", "1", b"another one")
        await follower.refresh()
        assert models.versions("m") == ["1"]

    play(tmp_path, scene)


async def test_a_default_model_that_is_not_there_is_a_failed_start(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")

    settings = Settings(model=str(tmp_path), default_model="n")
    models, _ = fake_models(FakeLoader(), settings)
    with pytest.raises(UnknownModel, match="'n', which is not loaded; loaded: m"):
        await Follower(models, settings).load_all()
    await models.close()


def test_a_load_by_name_is_idempotent_and_swaps(tmp_path: Path) -> None:
    version_folder(tmp_path, "m", "1")

    async def scene(models: Models, follower: Follower, loader: FakeLoader) -> None:
        await follower.load_newest("m")
        await follower.load_newest("m")
        assert len(loader.built) == 1
        version_folder(tmp_path, "m", "2")
        await follower.load_newest("m")
        assert models.versions("m") == ["2"]
        await models.unload("m")
        await follower.load_newest("m")
        assert models.versions("m") == ["2"]
        with pytest.raises(UnknownModel):
            await follower.load_newest("other")

    play(tmp_path, scene)


def test_a_folder_that_goes_away_changes_nothing(tmp_path: Path) -> None:
    version_folder(tmp_path / "root", "m", "1")

    async def scene(models: Models, follower: Follower, _loader: FakeLoader) -> None:
        await follower.load_all()
        shutil.rmtree(tmp_path / "root")
        await follower.refresh()
        assert models.versions("m") == ["1"]

    play(tmp_path / "root", scene)


def test_the_versions_on_disk_are_told_loaded_or_not(tmp_path: Path) -> None:
    for version in "12":
        version_folder(tmp_path, "m", version)

    async def scene(_models: Models, follower: Follower, _loader: FakeLoader) -> None:
        await follower.load_all()
        first, second = await asyncio.gather(follower.on_disk(), follower.on_disk())
        assert [one.version for one in first] == ["1", "2"]
        assert first is second, "one look at the disk for both"
        shutil.rmtree(tmp_path / "m")
        assert await follower.on_disk() == []

    play(tmp_path, scene)
