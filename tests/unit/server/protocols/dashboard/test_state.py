"""The state: what it holds of models and figures, who shares a text, and that it is made beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from server.errors import Unauthorized
from server.lifecycle import Lifecycle, Phase
from server.models import LoadOptions
from server.models.description import describe
from server.observe.exposition import Exposition
from server.protocols.dashboard.figures import figures
from server.protocols.dashboard.state import KEPT_S, MOST_SWITCHES, States
from server.request import Head
from tests.fake_models import Asked, FakeLoader, fake_models, scheduler_of, version_folder
from tests.fakes import FakeClock, FakeResponder

HEAD = Head(b"GET", b"/dashboard/state", [])


class Viewers:
    """A server with the versions 1 and 2 of a model, and those who look at its state."""

    def __init__(self, root: Path) -> None:
        self.loader = FakeLoader()
        self.models, self.metrics = fake_models(self.loader)
        self.lifecycle = Lifecycle()
        self.clock = FakeClock(100.0)
        facts = {"version": "9"}
        self.states = States(self.models, self.lifecycle, self.metrics, facts, clock=self.clock.seconds)
        self.root = root

    async def load(self, version: str, options: LoadOptions | None = None) -> Any:
        folder = version_folder(self.root, "m", version)
        return await self.models.load(folder, options or LoadOptions(), name="m", version=version)

    async def look(self) -> dict[str, Any]:
        return dict(orjson.loads((await self.answer())[1]))

    async def answer(self) -> tuple[int, bytes]:
        answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.states.ask(HEAD, b"", FakeResponder(sent=lambda status, body: answered.set_result((status, body))))
        return await answered


@pytest.fixture
def viewers(tmp_path: Path) -> Viewers:
    return Viewers(tmp_path)


async def test_an_empty_server_has_a_state(viewers: Viewers) -> None:
    state = await viewers.look()
    assert (state["models"], state["versions"], state["default"]) == ([], [], None)
    assert (state["phase"], state["ready"], state["version"]) == ("starting", False, "9")


async def test_versions_comparison_and_switches_are_shown(viewers: Viewers) -> None:
    await viewers.load("1")
    await viewers.load("2", LoadOptions(activate=False))
    viewers.lifecycle.move(Phase.READY)
    viewers.models.releases.canary("m", "2", 100.0)
    candidate = viewers.models.get("m", "2")
    Asked().submit(candidate)
    scheduler_of(candidate).serve()
    candidate.metrics.answers["ok"] += 3
    (model,) = (await viewers.look())["models"]
    assert (model["name"], model["answers"]) == ("m", "1")
    assert [(one["version"], one["state"]) for one in model["versions"]] == [("1", "READY"), ("2", "READY")]
    comparison = model["comparison"]
    assert (comparison["kind"], comparison["percent"]) == ("canary", 100.0)
    assert (comparison["stable"]["version"], comparison["other"]["version"]) == ("1", "2")
    assert comparison["other"]["answers"] == 3
    for _ in range(MOST_SWITCHES + 2):
        viewers.models.releases.promote("m", "2")
        viewers.models.releases.promote("m", "1")
    viewers.clock.now_s += KEPT_S
    (model,) = (await viewers.look())["models"]
    assert len(model["switches"]) == MOST_SWITCHES
    assert (model["switches"][0]["version"], model["previous"], model["comparison"]) == ("1", "2", None)


async def test_a_shadow_shows_its_outcomes_and_an_endless_difference_as_null(viewers: Viewers) -> None:
    await viewers.load("1")
    await viewers.load("2", LoadOptions(activate=False))
    viewers.models.releases.shadow("m", "2")
    shadow = viewers.models.releases.comparison("m")
    assert shadow is not None
    shadow.largest_difference = float("inf")  # type: ignore[union-attr]
    viewers.models.get("m", "2").metrics.shadowed["different"] += 2
    (model,) = (await viewers.look())["models"]
    assert model["comparison"]["outcomes"] == {"different": 2}
    assert model["comparison"]["largest_difference"] is None


async def test_reasons_which_may_quote_paths_are_not_in_the_state(viewers: Viewers) -> None:
    viewers.loader.error = OSError("no such file /secret/place")
    with pytest.raises(Exception, match="could not be loaded"):
        await viewers.load("1")
    _, body = await viewers.answer()
    assert b"UNAVAILABLE" in body
    assert b"secret" not in body
    assert str(viewers.root).encode() not in body


async def test_a_stalled_server_is_not_called_ready(viewers: Viewers) -> None:
    viewers.lifecycle.move(Phase.READY)
    viewers.lifecycle.stall("model 'm' makes no progress: its run does not end")
    state = await viewers.look()
    assert (state["phase"], state["ready"]) == ("stalled", False)
    assert "makes no progress" in state["reason"]


async def test_viewers_within_a_second_share_one_text(viewers: Viewers) -> None:
    first, second = await asyncio.gather(viewers.answer(), viewers.answer())
    assert first == second
    viewers.metrics.refused[Unauthorized.code] += 1
    viewers.clock.now_s += 0.9 * KEPT_S
    assert await viewers.answer() == first
    viewers.clock.now_s += KEPT_S
    assert (await viewers.look())["server"]["refused"] == {"unauthorized": 1}


async def test_the_text_is_made_on_another_thread(viewers: Viewers, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    collect = Exposition.collect

    def noted(self: Exposition) -> Any:
        threads.append(threading.get_ident())
        return collect(self)

    monkeypatch.setattr(Exposition, "collect", noted)
    await viewers.look()
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_a_failure_is_told_without_its_details_and_the_next_viewer_asks_again(
    viewers: Viewers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(Exposition, "collect", lambda _: 1 / 0)
        status, body = await viewers.answer()
    assert status == 500
    assert b"division" not in body
    assert (await viewers.answer())[0] == 200


async def test_figures_of_a_version_add_up(viewers: Viewers) -> None:
    model = await viewers.load("1")
    model.metrics.answers.update({"ok": 3, "overloaded": 1})
    model.metrics.cache_outcomes["hit"] += 2
    (row,) = figures(viewers.metrics.exposition(list(viewers.metrics.copies())).plain())["versions"]
    assert (row["model"], row["version"]) == ("m", "1")
    assert row["requests"] == {"ok": 3, "overloaded": 1}
    assert row["cache"] == {"hit": 2}
    assert len(row["stage_s"]) == 9
    assert row["latency"]["+Inf"] == row["timed"] == 0


def test_memory_and_use_of_a_gpu_are_one_row() -> None:
    gpu = {"gpu": "0", "uuid": "u"}
    memory = [
        ["slipway_gpu_memory_bytes", {**gpu, "name": "H", "state": "used"}, 3.0],
        ["slipway_gpu_memory_bytes", {**gpu, "name": "H", "state": "free"}, 5.0],
    ]
    found = figures([{"samples": memory}, {"samples": [["slipway_gpu_busy_ratio", gpu, 0.5]]}])["gpus"]
    assert found == [{"index": "0", "name": "H", "used_bytes": 3.0, "free_bytes": 5.0, "busy": 0.5}]


async def test_figures_of_other_processes_are_added(viewers: Viewers) -> None:
    await viewers.load("1")
    await viewers.load("2", LoadOptions(activate=False))
    viewers.models.releases.canary("m", "2", 100.0)
    viewers.models.get("m", "2").metrics.answers["ok"] += 3
    theirs = {"m": describe(viewers.models, viewers.models.of("m"))}

    async def gather(_names: Any) -> list[Any]:
        return [theirs]

    async def scrape() -> list[Any]:
        return [{"samples": [["slipway_connections", {}, 7.0]]}]

    viewers.states = States(viewers.models, viewers.lifecycle, viewers.metrics, {}, scrape, gather)
    state = await viewers.look()
    assert state["models"][0]["comparison"]["other"]["answers"] == 6
    assert (state["server"], state["versions"]) == ({"connections": 7.0}, [])
