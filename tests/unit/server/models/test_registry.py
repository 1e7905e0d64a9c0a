"""The registry: who answers to a name while versions are loaded, swapped, evicted and unloaded in any order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from server.errors import (
    AlreadyLoaded,
    BrokenArtifact,
    MalformedInput,
    ModelFailed,
    NoSuchArtifact,
    NotReady,
    OutOfMemory,
    Overloaded,
    UnknownModel,
)
from server.models import LoadOptions, Models, ServedModel
from server.models.registry import KEPT_NAMES, MAX_LOADS
from server.models.releases import Releases
from server.models.repository import Found
from server.models.traffic import Rules
from server.models.versions import REMEMBERED, State
from server.settings.options import Settings
from server.system.memory import FILES_TO_MEMORY
from tests.fake_models import MB, Asked, FakeLoader, fake_models, head, scheduler_of, session_of, version_folder
from tests.fakes import FakeClock


@pytest.fixture
def loader() -> FakeLoader:
    return FakeLoader()


@pytest.fixture
async def models(loader: FakeLoader) -> AsyncIterator[Models]:
    made, _ = fake_models(loader)
    yield made
    await made.close()


async def load(models: Models, root: Path, version: str, options: LoadOptions | None = None, **of: str) -> ServedModel:
    name = of.get("name", "m")
    path = version_folder(root, name, version)
    return await models.load(path, options or LoadOptions(), name=name, version=version)


def states(models: Models, name: str = "m") -> dict[str, State]:
    return {one.version: one.state for one in models.of(name).rows()}


def changes_of(models: Models) -> asyncio.Event:
    """Set when another version answers."""
    changed = asyncio.Event()
    models.on_change = lambda _name, _references: changed.set()
    return changed


class TestVersions:
    async def test_the_highest_ready_version_answers_and_numbers_are_compared_as_numbers(
        self, tmp_path: Path, models: Models
    ) -> None:
        for version in ("9", "10", "2"):
            await load(models, tmp_path, version)
        assert models.get("m").version == models.ask("m", head()).version == models.default().version == "10"
        assert [models.get("m", version).version for version in ("2", "9", "10")] == ["2", "9", "10"]
        assert models.versions("m") == ["2", "9", "10"]
        await models.unload("m", "10")
        assert models.get("m").version == "9"
        with pytest.raises(UnknownModel, match="model 'm' has no version '10'"):
            models.get("m", "10")

    async def test_a_version_that_is_loaded_beside_does_not_take_over(self, tmp_path: Path, models: Models) -> None:
        await load(models, tmp_path, "1")
        await load(models, tmp_path, "2", LoadOptions(activate=False))
        assert models.get("m").version == "1"
        await load(models, tmp_path, "3", LoadOptions(activate=True))
        assert models.get("m").version == "3"

    async def test_labels_stand_for_versions_until_those_are_gone(self, tmp_path: Path, models: Models) -> None:
        seen: list[tuple[str, set[str]]] = []

        def note(name: str, references: Mapping[str, ServedModel]) -> None:
            seen.append((name, set(references)))

        models.on_change = note
        await load(models, tmp_path, "1")
        models.releases.label("m", "stable", "1")
        assert models.get("m", "stable") is models.get("m", "1")
        await models.unload("m")
        assert seen == [("m", {"1"}), ("m", {"1", "stable"}), ("m", set())]

    async def test_the_default_model_is_the_named_one_or_the_first(self, tmp_path: Path, loader: FakeLoader) -> None:
        first, _ = fake_models(loader)
        named, _ = fake_models(loader, Settings(default_model="b"))
        for models in (first, named):
            await load(models, tmp_path, "1", name="a")
            await load(models, tmp_path, "1", name="b")
        assert (first.default().name, named.ask_default(head()).name) == ("a", "b")
        await named.unload("b")
        with pytest.raises(UnknownModel):
            named.ask_default(head())  # another model's answer would be worse than none
        await asyncio.gather(first.close(), named.close())


class TestLoads:
    async def test_what_is_there_or_on_its_way_is_refused_and_stays_as_it_was(
        self, tmp_path: Path, loader: FakeLoader, models: Models
    ) -> None:
        loader.hold()
        first = asyncio.ensure_future(load(models, tmp_path, "1"))
        await asyncio.to_thread(loader.begun.wait)
        with pytest.raises(AlreadyLoaded, match="is being loaded already"):
            await load(models, tmp_path, "1")
        assert states(models) == {"1": State.LOADING}
        with pytest.raises(UnknownModel):
            models.get("m")
        loader.release()
        model = await first
        with pytest.raises(AlreadyLoaded, match="is loaded already"):
            await load(models, tmp_path, "1")
        assert loader.built == [model]

    async def test_a_load_survives_its_caller(self, tmp_path: Path, loader: FakeLoader, models: Models) -> None:
        loader.hold()
        caller = asyncio.ensure_future(load(models, tmp_path, "1"))
        await asyncio.to_thread(loader.begun.wait)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        published = changes_of(models)
        loader.release()
        await published.wait()
        assert models.get("m").version == "1"

    @pytest.mark.parametrize("error", [BrokenArtifact("no good"), ValueError("no good"), SystemExit("no good")])
    async def test_a_load_that_fails_is_told_kept_and_may_be_tried_again(
        self, tmp_path: Path, loader: FakeLoader, models: Models, error: BaseException
    ) -> None:
        loader.error = error
        with pytest.raises(BrokenArtifact):
            await load(models, tmp_path, "1")
        assert states(models) == {"1": State.UNAVAILABLE}
        with pytest.raises(UnknownModel, match="no model named 'm' is loaded") as unknown:
            models.get("m")
        assert "no good" not in str(unknown.value)
        assert models.of("m").known["1"].reason
        loader.error = None
        assert (await load(models, tmp_path, "1")).version == "1"

    async def test_nothing_at_the_path_is_told_from_something_broken(self, tmp_path: Path, loader: FakeLoader) -> None:
        models, _ = fake_models(loader)
        with pytest.raises(NoSuchArtifact):
            await models.load(tmp_path / "nothing")

    async def test_after_the_end_nothing_is_loaded_and_what_was_on_its_way_is_given_up(
        self, tmp_path: Path, loader: FakeLoader
    ) -> None:
        models, _ = fake_models(loader)
        loader.hold()
        late = asyncio.ensure_future(load(models, tmp_path, "1"))
        await asyncio.to_thread(loader.begun.wait)
        await models.close()
        with pytest.raises(NotReady, match="stopping"):
            await late
        loader.release()
        with pytest.raises(NotReady):
            await load(models, tmp_path, "2")


class TestSwap:
    async def test_a_request_of_the_old_version_is_answered_by_it_and_only_then_is_it_closed(
        self, tmp_path: Path, loader: FakeLoader
    ) -> None:
        models, metrics = fake_models(loader)
        old = await load(models, tmp_path, "1")
        asked = Asked().submit(old)
        published = changes_of(models)
        swap = asyncio.ensure_future(load(models, tmp_path, "2", LoadOptions(retire=True)))
        await published.wait()
        assert states(models) == {"1": State.UNLOADING, "2": State.READY}
        assert models.get("m").version == "2"
        assert (asked.ended, session_of(old).closed) == ([], 0)
        scheduler_of(old).serve()
        await swap
        assert (asked.answer, session_of(old).closed) == (2.0, 1)
        assert b'version="1"' not in metrics.text().replace(b'slipway_build_info{version="1"}', b"")
        await models.close()

    async def test_the_same_version_can_be_loaded_again(self, tmp_path: Path, loader: FakeLoader) -> None:
        models, metrics = fake_models(loader)
        old = await load(models, tmp_path, "1")
        new = await load(models, tmp_path, "1", LoadOptions(reload=True))
        assert models.get("m") is models.get("m", "1") is new is not old
        assert session_of(old).closed == 1
        assert b'slipway_queue_rows{model="m",version="1"}' in metrics.text()
        await models.close()

    async def test_loading_it_again_in_vain_leaves_the_one_that_is_there(
        self, tmp_path: Path, loader: FakeLoader, models: Models
    ) -> None:
        old = await load(models, tmp_path, "1")
        loader.error = BrokenArtifact("no good")
        with pytest.raises(BrokenArtifact):
            await load(models, tmp_path, "1", LoadOptions(reload=True))
        assert models.get("m", "1") is old
        assert models.of("m").rows()[0].reason == "loading it again failed: no good"

    async def test_what_a_label_points_at_is_not_retired(self, tmp_path: Path, models: Models) -> None:
        for version in ("1", "2"):
            await load(models, tmp_path, version)
        models.releases.label("m", "fallback", "1")
        await load(models, tmp_path, "3", LoadOptions(retire=True))
        assert models.versions("m") == ["1", "3"]

    async def test_a_queue_that_never_empties_is_given_up(self, tmp_path: Path, loader: FakeLoader) -> None:
        models, _ = fake_models(loader, Settings(drain_timeout_s=0.0))
        asked = Asked().submit(await load(models, tmp_path, "1"))
        await models.unload("m")
        assert isinstance(asked.ended[0].error, NotReady)


class TestMemory:
    WEIGHT = 20 * MB
    NEEDED = FILES_TO_MEMORY * WEIGHT

    async def load(self, models: Models, root: Path, name: str, *, pinned: bool = False) -> ServedModel:
        path = version_folder(root, name, "1", bytes(self.WEIGHT))
        return await models.load(path, LoadOptions(pinned=pinned), name=name, version="1")

    async def test_what_was_used_least_recently_makes_room_and_says_why(
        self, tmp_path: Path, loader: FakeLoader
    ) -> None:
        loader.takes_bytes = self.WEIGHT

        models, _ = fake_models(loader, budget_mb=65)
        for name in "abc":
            await self.load(models, tmp_path, name)
            if name == "b":  # a is asked, so that b is the one that was not used for longest
                models.get("a").metrics.stages.record(Asked().request, 1, 2, 3, 1 << 60)
        assert {model.name for model in models.all()} == {"a", "c"}
        with pytest.raises(UnknownModel, match="no model named 'b' is loaded"):
            models.get("b")
        assert models.of("b").known["1"].reason == "it was evicted to make room for 'c'"
        await models.close()

    async def test_what_cannot_fit_is_refused_before_anything_is_evicted_or_built(
        self, tmp_path: Path, loader: FakeLoader
    ) -> None:
        loader.takes_bytes = self.WEIGHT

        models, _ = fake_models(loader, budget_mb=65)
        await self.load(models, tmp_path, "a")
        await self.load(models, tmp_path, "b", pinned=True)
        loader.takes_bytes = 2 * self.WEIGHT
        with pytest.raises(OutOfMemory, match=r"'c' needs about 30 MB to load, 45 MB more than is left of the 65 MB"):
            await self.load(models, tmp_path, "c")
        assert {model.name for model in models.all()} == {"a", "b"}
        assert len(loader.built) == 2
        await models.close()

    async def test_the_version_that_is_being_replaced_is_not_evicted_for_its_successor(
        self, tmp_path: Path, loader: FakeLoader
    ) -> None:
        loader.takes_bytes = self.WEIGHT

        models, _ = fake_models(loader, budget_mb=45)
        await self.load(models, tmp_path, "a")
        with pytest.raises(OutOfMemory):
            await models.load(version_folder(tmp_path, "a", "2", bytes(self.WEIGHT)), name="a", version="2")
        assert models.get("a").version == "1"
        await models.close()

    async def test_what_a_load_took_is_measured_and_shown(self, tmp_path: Path, loader: FakeLoader) -> None:
        loader.takes_bytes = 3 * self.WEIGHT

        models, metrics = fake_models(loader)
        await self.load(models, tmp_path, "a")
        assert models.of("a").rows()[0].bytes == 3 * self.WEIGHT
        assert b'slipway_model_memory_bytes{model="a",version="1"} 6e+07' in metrics.text()
        await models.close()


class TestReleases:
    async def test_promote_and_back_by_one_call_each_with_the_reasons_kept(
        self, tmp_path: Path, models: Models
    ) -> None:
        for version in ("1", "2"):
            await load(models, tmp_path, version)
        models.releases.promote("m", "1")
        assert models.get("m").version == "1"
        models.releases.roll_back("m")
        assert models.get("m").version == "2"
        models.releases.roll_back("m", "no, that one after all")
        assert models.get("m").version == "1"
        reasons = [(one.version, one.reason) for one in models.of("m").switches]
        assert reasons == [("1", "promoted"), ("2", "rolled back by a call"), ("1", "no, that one after all")]

    async def test_a_canary_that_breaks_its_rules_goes_and_the_reason_stays(
        self, tmp_path: Path, models: Models
    ) -> None:
        for version in ("1", "2"):
            await load(models, tmp_path, version)
        models.releases.promote("m", "1")
        models.releases.canary("m", "2", 50.0, Rules(error_rate=0.1, least=10))
        for _ in range(20):
            model = models.ask("m", head())
            Asked().submit(model)
            failed = model.version == "2"
            scheduler_of(model).serve(ModelFailed("no") if failed else None)
            model.metrics.answers["model_failed" if failed else "ok"] += 1
        models.releases.review()
        assert {models.ask("m", head()).version for _ in range(10)} == {"1"}
        assert models.releases.comparison("m") is None
        assert models.of("m").switches[-1].reason == (
            "rolled back by its rules: error rate 100.0% against 0.0% over 10 answers"
        )

    async def test_a_comparison_ends_with_either_of_its_versions(self, tmp_path: Path, models: Models) -> None:
        for version in ("1", "2", "3"):
            await load(models, tmp_path, version, LoadOptions(activate=False))
        for gone in ("2", "1"):
            models.releases.shadow("m", "3" if gone == "1" else "2")
            await models.unload("m", gone)
            assert models.releases.comparison("m") is None
            assert all(model.watch is None and model.choose is None for model in models.all())


def answer(model: ServedModel, count: int, outcome: str = "ok") -> None:
    model.metrics.answers[outcome] += count


class TestProbation:
    """A version that took over is watched for a while, and goes when it is worse than the one before it."""

    async def test_a_version_that_fails_goes_back_to_the_one_before_and_the_reason_stays(
        self, tmp_path: Path, models: Models
    ) -> None:
        answer(await load(models, tmp_path, "1"), 1_000)
        second = await load(models, tmp_path, "2")
        answer(second, 40)
        answer(second, 9, "model_failed")
        models.releases.review()
        assert models.get("m") is second  # 49 answers are not enough to judge
        answer(second, 1)
        models.releases.review()
        assert models.get("m").version == "1"
        assert models.of("m").switches[-1].reason == (
            "version 2 was rolled back on probation: error rate 18.0% against 0.0% over 50 answers"
        )
        assert models.releases.probation("m") is None
        await load(models, tmp_path, "3", LoadOptions(activate=False))
        assert models.get("m").version == "1"

    async def test_what_more_traffic_does_to_any_version_is_not_held_against_it(
        self, tmp_path: Path, models: Models
    ) -> None:
        await load(models, tmp_path, "1")
        second = await load(models, tmp_path, "2")
        answer(second, 500, "overloaded")
        answer(second, 500, "deadline_exceeded")
        models.releases.review()
        assert models.get("m") is second
        assert models.releases.probation("m") is not None

    async def test_where_the_one_before_is_gone_it_is_only_recorded(self, tmp_path: Path, models: Models) -> None:
        await load(models, tmp_path, "1")
        second = await load(models, tmp_path, "2", LoadOptions(retire=True))
        answer(second, 100, "internal")
        models.releases.review()
        assert models.get("m") is second
        assert models.of("m").switches[-1].reason == (
            "kept, though worse than version 1, which is not loaded any more: "
            "error rate 100.0% against 0.0% over 100 answers"
        )
        models.releases.review()
        assert len(models.of("m").switches) == 1

    async def test_a_promoted_canary_is_judged_by_its_own_rules_and_by_the_latencies_that_were_compared(
        self, tmp_path: Path, models: Models
    ) -> None:
        clock = FakeClock()

        models.releases = Releases(models.of, models.publish, probation_s=10.0, clock=clock)
        for version in ("1", "2"):
            await load(models, tmp_path, version, LoadOptions(activate=False))
        models.releases.canary("m", "2", 50.0, Rules(latency=2.0, least=5))
        for _ in range(10):
            serve_one(models, clock, {"1": 2, "2": 3})
        models.releases.review()
        models.releases.promote("m", "2")
        for _ in range(10):
            serve_one(models, clock, {"2": 5})
        models.releases.review()
        assert models.get("m").version == "1"
        assert models.of("m").switches[-1].reason == (
            "version 2 was rolled back on probation: p95 5.00 ms against 2.00 ms over 10 answers"
        )
        assert all(model.watch is None for model in models.all())

    async def test_it_ends_with_time_and_with_whatever_else_changes_who_answers(
        self, tmp_path: Path, models: Models
    ) -> None:
        clock = FakeClock()

        rules = Rules(error_rate=0.1, latency=2.0)
        models.releases = releases = Releases(models.of, models.publish, probation_s=10.0, rules=rules, clock=clock)
        for version in ("1", "2", "3"):
            await load(models, tmp_path, version, LoadOptions(activate=False))
        ends: list[Callable[[], object]] = [
            lambda: setattr(clock, "now_ns", clock.now_ns + 10_000_000_000),
            lambda: releases.roll_back("m"),
            lambda: releases.shadow("m", "3"),
        ]
        for end in ends:
            releases.promote("m", "1")
            releases.promote("m", "2")
            assert releases.probation("m") is not None
            end()
            releases.review()
            assert releases.probation("m") is None
        releases.promote("m", "1")
        releases.promote("m", "2")
        await models.unload("m", "2")
        assert releases.probation("m") is None

    async def test_it_can_be_switched_off(self, tmp_path: Path, loader: FakeLoader) -> None:
        models, _ = fake_models(loader, Settings(probation_s=0))
        await load(models, tmp_path, "1")
        await load(models, tmp_path, "2")
        assert models.releases.probation("m") is None
        await models.close()


def serve_one(models: Models, clock: FakeClock, takes_ms: Mapping[str, int]) -> None:
    """One request to whoever answers, which takes that version's time. The traffic's clock is the machine's."""
    model = models.ask("m", head())
    asked = Asked()
    model.submit(asked.request)
    if model.watch is not None:
        model.watch(asked.request)
    clock.now_ns += takes_ms[model.version] * 1_000_000
    scheduler_of(model).serve()
    answer(model, 1)


class TestBounds:
    """What callers of the admin API can make grow."""

    @pytest.mark.parametrize(
        ("name", "version"), [("../m", "1"), ("m", "9" * 4_301), ("m", "\ud800"), ("a\0b", "1"), ("n" * 1_000, "1")]
    )
    async def test_a_bad_name_is_refused_before_it_is_known(
        self, tmp_path: Path, models: Models, name: str, version: str
    ) -> None:
        with pytest.raises(MalformedInput):
            await models.load(version_folder(tmp_path, "m", "1"), name=name, version=version)
        assert models.known() == []

    @pytest.mark.parametrize("path", ["/" + "a" * 300, "/a\0b", "/\ud800", "/nothing"])
    async def test_a_path_that_cannot_be_read_is_no_artifact(self, models: Models, path: str) -> None:
        with pytest.raises(BrokenArtifact):
            await models.load(Path(path), name="m", version="1")

    async def test_names_whose_loads_failed_are_forgotten_from_the_oldest_on(
        self, tmp_path: Path, loader: FakeLoader, models: Models
    ) -> None:
        await load(models, tmp_path, "1")
        loader.error = BrokenArtifact("no good")
        path = version_folder(tmp_path, "other", "1")
        for index in range(KEPT_NAMES + 20):
            with pytest.raises(BrokenArtifact):
                await models.load(path, name=f"n{index}", version="1")
        names = [one.name for one in models.known()]
        assert names == ["m", *(f"n{index}" for index in range(20, KEPT_NAMES + 20))]

    async def test_past_versions_are_forgotten_from_the_oldest_on(self, tmp_path: Path, models: Models) -> None:
        for version in range(REMEMBERED + 5):
            await load(models, tmp_path, str(version), LoadOptions(activate=True, retire=True))
        await asyncio.sleep(0)
        known = list(models.of("m").known)
        assert known == [str(version) for version in range(4, REMEMBERED + 5)]
        assert models.get("m").version == str(REMEMBERED + 4)

    async def test_loads_that_wait_are_limited(self, tmp_path: Path, loader: FakeLoader, models: Models) -> None:
        loader.hold()
        path = version_folder(tmp_path, "m", "1")
        found = [Found(path, "m", str(index)) for index in range(MAX_LOADS + 1)]
        tasks = [asyncio.ensure_future(models.load_found(one)) for one in found[:-1]]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await models.load_found(found[-1])
        loader.release()
        await asyncio.gather(*tasks)
