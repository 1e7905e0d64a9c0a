"""Processes that die, stop or come late, at any message between them and the supervisor: afterwards all are alike."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from server.errors import SlipwayError
from server.replicas.channel import ChannelClosed
from server.replicas.supervisor import FAILED, STOPPED
from tests.fake_models import version_folder
from tests.unit.server.replicas.simulated import PATIENCE_S, STRIKES, Server, play

SLOW = {"stage": "decode", "extra_us": 7, "seconds": 120.0}
EVERY = 11
"""Of the messages of a life each strike is tried at one in so many; at all of them with ``-m slow``."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    version_folder(tmp_path / "models", "m", "1")
    version_folder(tmp_path / "other", "m", "2")
    version_folder(tmp_path / "other", "x", "1")
    return tmp_path / "models"


def changes(root: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every kind of change, each of which may come although the one before was lost."""
    one, two = ({"name": "m", "version": version} for version in "12")
    other = {"path": str(root / "x" / "1"), "name": "x", "pinned": True}
    return [
        ("load", {"path": str(root / "m" / "2"), **two, "activate": False}),
        ("label", {**one, "label": "kept"}),
        ("canary", {**two, "percent": 50.0, "error_rate": 0.5, "latency": 0.0, "least": 9}),
        ("promote", two),
        ("load", other),
        ("roll_back", {"name": "m"}),
        ("load", {**other, "reload": True}),
        ("shadow", {**two, "percent": 10.0}),
        ("slow", SLOW),
        ("unload", two),
        ("load_newest", {"name": "m", "overrides": {"instances": 2}}),
        ("unload", {"name": "x"}),
        ("label", {**one, "label": "last"}),
    ]


class Client:
    """Makes changes, each in another process, and remembers the labels whose changes were answered with success."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._turn = 0
        self.labels: set[str] = set()

    async def make(self, kind: str, values: dict[str, Any], joined: bool = True) -> str:
        """How the change ended: ``done``, ``lost`` with its process, or the code of an error. It always ends."""
        self._turn += 1
        process = await self._server.serving(self._turn, joined)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await process.changes.make(kind, **values)
        except ChannelClosed:
            return "lost"
        except SlipwayError as error:
            return error.code
        if kind == "label":
            self.labels.add(values["label"])
        return "done"


async def life(server: Server) -> list[str]:
    """A start with a change that comes early, all changes with a death in between, and all questions at the end."""
    client = Client(server)
    outcomes = [await client.make("slow", SLOW, joined=False)]
    for kind, values in changes(Path(server.settings.model).parent / "other"):
        outcomes.append(await client.make(kind, values))
        if kind == "slow":
            (await server.serving(0)).end(-signal.SIGKILL)
            await server.settled()
    await server.calm()
    ours, *others = [one.answers() for one in server.living]
    for theirs in others:
        assert theirs == ours
    assert client.labels <= set(ours["state"]["models"]["m"]["labels"])
    for number in range(len(server.living)):  # each of them can still change all
        label = f"after{number}"
        assert await client.make("label", {"name": "m", "version": "1", "label": label}) == "done"
        assert all(label in one.models.of("m").labels for one in server.living)
    return outcomes


def live(root: Path, strikes: Mapping[int, str], processes: int = 2) -> tuple[Server, list[str]]:
    outcomes: list[str] = []

    async def scene(server: Server) -> None:
        outcomes.extend(await life(server))

    return play(root, scene, strikes, processes=processes), outcomes


def test_without_faults_all_changes_are_made_but_the_one_that_comes_while_the_first_process_loads(root: Path) -> None:
    server, outcomes = live(root, {})
    assert outcomes == ["not_ready", *["done"] * (len(outcomes) - 1)]
    assert len(server.processes) == server.settings.processes + 1
    assert server.code == STOPPED


@pytest.mark.parametrize("strike", STRIKES)
@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.slow)])
def test_after_a_fault_at_a_message_all_processes_answer_alike(root: Path, strike: str, every: int) -> None:
    messages = live(root, {})[0].messages
    for number in range(1, messages + 1, every):
        server, _ = live(root, {number: strike})
        assert server.messages >= number, "the fault was not reached"
        assert server.code == STOPPED


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_after_several_faults_of_three_processes_all_answer_alike(root: Path, seed: int) -> None:
    random_ = random.Random(seed)
    for _ in range(25):
        live(root, {random_.randint(1, 200): random_.choice(STRIKES) for _ in range(4)}, processes=3)


def test_a_signal_ends_all_processes_at_any_moment_of_their_starts(root: Path) -> None:
    for tenths in range(1, 120, 7):

        async def scene(server: Server, wait_s: float = tenths / 10) -> None:
            await asyncio.sleep(wait_s)
            for one in server.living:
                if one.serves:
                    one.end(-signal.SIGKILL)
                    break
            await asyncio.sleep(wait_s / 10)

        server = play(root, scene)
        assert server.code == STOPPED
        assert server.living == []


def test_a_state_that_no_process_can_follow_ends_the_server(root: Path) -> None:
    async def scene(server: Server) -> None:
        await server.settled()
        path = root.parent / "other" / "x"
        assert await Client(server).make("load", {"path": str(path / "1"), "name": "x"}) == "done"
        shutil.rmtree(path)
        for one in server.living:
            one.end(-signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(server.ending)

    assert play(root, scene).code == FAILED


def test_a_server_that_gives_up_kills_a_process_that_does_not_end(root: Path) -> None:
    async def scene(server: Server) -> None:
        await (await server.serving(0)).member.joined.wait()
        while len(server.living) < 2:  # noqa: ASYNC110 - simulated
            await asyncio.sleep(0.1)
        first, second = server.living
        first.wire.stopped = True
        second.end(FAILED)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(server.ending)

    assert play(root, scene).code == FAILED


@pytest.mark.parametrize("origin", [0, 1])
def test_a_change_at_any_moment_of_a_poll_loses_no_version(root: Path, origin: int) -> None:
    for seconds in range(12):
        shutil.rmtree(root / "m" / "2", ignore_errors=True)

        async def scene(server: Server, wait_s: float = seconds) -> None:
            await server.settled()
            version_folder(root, "m", "2")
            await asyncio.sleep(wait_s)
            await server.living[origin].changes.make("slow", **SLOW)
            await asyncio.sleep(60.0)
            for one in server.living:
                assert one.models.versions("m") == ["2"]
                assert one.models.slowdown is not None
                assert one.models.slowdown.now is not None

        assert len(play(root, scene, poll_s=5.0).processes) == 2, "a process was replaced"
