"""The state of the models as a document: whatever is changed in one process, another one follows, also from nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import orjson
import pytest

from server.errors import BrokenArtifact, SlipwayError
from server.models.changes import Changes
from server.models.description import describe, merge
from server.models.follower import Follower
from server.models.state import follow, state_of
from server.settings.options import Settings
from server.slowdown import Slowdown
from tests.fake_models import FakeLoader, fake_models, version_folder

NAMES, VERSIONS, LABELS = ("a", "b"), ("1", "2", "3"), ("old", "new")


class Process:
    """One process of a server, without sockets."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(model=str(root), keep_versions=0)
        self.loader = FakeLoader()
        self.models, _ = fake_models(self.loader, self.settings)
        self.models.slowdown = Slowdown(lambda _s, _call: None)
        self.follower = Follower(self.models, self.settings)
        self.changes = Changes(self.models, self.follower)

    @property
    def state(self) -> dict[str, object]:
        """As it is when it has crossed to another process."""
        return dict(orjson.loads(orjson.dumps(state_of(self.models, self.follower))))

    @property
    def lasting(self) -> dict[str, object]:
        """The state without who is on probation, which each process decides."""
        models = state_of(self.models, self.follower)["models"]
        return {name: {**one, "probation": False} for name, one in models.items()}

    async def follow(self, other: Process) -> None:
        await follow(self.models, self.follower, other.state)
        assert self.lasting == other.lasting
        assert self.served() == other.served()

    def served(self) -> dict[str, object]:
        """What clients see: versions, labels, who answers, and the default."""
        seen: dict[str, object] = {name: sorted(self.models.versions(name)) for name in self.models.order()}
        for name in self.models.order():
            references = self.models.of(name).references()
            seen[f"{name}/"] = {key: one.version for key, one in references.items()}, self.models.get(name).version
        return seen | {"default": next(iter(self.models.order()), None)}


def change(random_: random.Random, root: Path) -> tuple[str, dict[str, object]]:
    name, version = random_.choice(NAMES), random_.choice(VERSIONS)
    load: dict[str, object] = {
        "path": str(root / name / version),
        "name": name,
        "version": version,
        "activate": random_.choice((None, True, False)),
        "pinned": random_.random() < 0.5,
        "retire": random_.random() < 0.2,
        "reload": random_.random() < 0.3,
    }
    one = {"name": name, "version": version}
    kinds: list[tuple[str, dict[str, object]]] = [
        *[("load", load)] * 4,
        ("unload", dict(one)),
        ("unload", {"name": name, "forget": random_.random() < 0.5}),
        ("load_newest", {"name": name, "overrides": {"instances": random_.choice((None, 2))}}),
        ("label", {**one, "label": random_.choice(LABELS)}),
        ("unlabel", {"name": name, "label": random_.choice(LABELS)}),
        ("promote", dict(one)),
        ("roll_back", {"name": name}),
        ("canary", {**one, "percent": 10.0, "error_rate": 0.1, "latency": 0.0, "least": 5}),
        ("shadow", {**one, "percent": 10.0}),
        ("conclude", {"name": name, "verdict": "too slow"}),
        ("slow", {"stage": "decode", "extra_us": 7, "seconds": 60.0}),
        ("end_slowdown", {}),
    ]
    return random_.choice(kinds)


@pytest.mark.parametrize("seed", range(6))
async def test_another_process_follows_every_change_wherever_it_was_made(seed: int, tmp_path: Path) -> None:
    random_ = random.Random(seed)
    for name in NAMES:
        for version in VERSIONS[: 1 + seed % 3]:
            version_folder(tmp_path, name, version)
    here, there = Process(tmp_path), Process(tmp_path)
    await asyncio.gather(here.follower.load_all(), there.follower.load_all())
    made = 0
    for _ in range(25):
        kind, values = change(random_, tmp_path)
        _, result = await here.changes.apply(kind, values)
        made += not isinstance(result, SlipwayError)
        await there.follow(here)
        here, there = (there, here) if random_.random() < 0.5 else (here, there)
    assert made > 5
    fresh = Process(tmp_path)
    await fresh.follower.load_all()
    await fresh.follow(here)
    await asyncio.gather(*(one.models.close() for one in (here, there, fresh)))


async def test_a_version_that_is_loaded_again_is_loaded_again_by_the_followers(tmp_path: Path) -> None:
    path = version_folder(tmp_path, "a", "1")
    here, there = Process(tmp_path), Process(tmp_path)
    await asyncio.gather(here.follower.load_all(), there.follower.load_all())
    for _ in range(2):
        await here.changes.make("load", path=str(path), name="a", version="1", reload=True)
        await there.follow(here)
        await there.follow(here)
    assert len(there.loader.built) == len(here.loader.built) == 3
    await asyncio.gather(here.models.close(), there.models.close())


async def test_what_cannot_be_followed_can_be_undone(tmp_path: Path) -> None:
    for version in ("1", "2"):
        version_folder(tmp_path / "models", "a", version)
    here, there = Process(tmp_path / "models"), Process(tmp_path / "models")
    await asyncio.gather(here.follower.load_all(), there.follower.load_all())
    other = version_folder(tmp_path, "b", "1")
    before = there.state
    states, _ = await here.changes.apply("load", {"path": str(other), "name": "b", "version": "1"})
    there.loader.error = BrokenArtifact("not in this process")
    with pytest.raises(BrokenArtifact):
        await there.follow(here)
    await follow(here.models, here.follower, states["before"])
    await follow(there.models, there.follower, states["before"])
    assert here.served() == there.served() == {**here.served(), "default": "a"}
    assert here.state == before
    await asyncio.gather(here.models.close(), there.models.close())


async def test_a_verdict_is_made_in_all_processes_and_once(tmp_path: Path) -> None:
    for version in ("1", "2"):
        version_folder(tmp_path, "a", version)
    one = Process(tmp_path)
    asked: list[tuple[str, dict[str, object]]] = []
    answered = asyncio.Event()

    async def everywhere(kind: str, values: dict[str, object]) -> None:
        asked.append((kind, values))
        await answered.wait()
        await one.changes.make_here(kind, values)

    await one.follower.load_all()
    one.changes = Changes(one.models, one.follower, everywhere)
    releases = one.models.releases
    await one.changes.make_here("promote", {"name": "a", "version": "1"})
    values = {"name": "a", "version": "2", "percent": 50.0, "error_rate": 0.1, "latency": 0.0, "least": 1}
    await one.changes.make_here("canary", values)
    one.models.get("a", "1").metrics.answers["ok"] += 1
    one.models.get("a", "2").metrics.answers["model_failed"] += 1
    for _ in range(3):
        releases.review()
        await asyncio.sleep(0)
    assert [(kind, values["name"]) for kind, values in asked] == [("conclude", "a")]
    assert releases.comparison("a") is not None
    answered.set()
    await asyncio.gather(*one.changes.running())
    assert releases.comparison("a") is None
    assert "rolled back by its rules" in one.models.of("a").switches[-1].reason
    await one.models.close()


async def test_descriptions_of_processes_are_merged(tmp_path: Path) -> None:
    for version in ("1", "2"):
        version_folder(tmp_path, "a", version)
    processes = [Process(tmp_path) for _ in range(2)]
    for process in processes:
        await process.follower.load_all()
        values = {"name": "a", "version": "1", "percent": 50.0, "error_rate": 0.0, "latency": 0.0, "least": 1}
        await process.changes.make("canary", **values)
        process.models.get("a", "1").metrics.answers["ok"] += 3
    ours, theirs = (describe(one.models, one.models.of("a")) for one in processes)
    merged = merge(ours, [theirs, None])
    assert merged["comparison"]["other"]["answers"] == 6
    assert merged["comparison"]["kind"] == "canary"
    await asyncio.gather(*(one.models.close() for one in processes))
