"""One model: what is opened, how it is planned and warmed up, what loading and unloading leave behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from server import artifact as artifacts
from server.artifact import Artifact, Batching, Manifest
from server.backends import BackendOptions, Session
from server.errors import AlreadyLoaded, BrokenArtifact, ModelFailed, NotReady, UnknownModel
from server.models import Models, ServedModel
from server.models.load import Loader, limits, tensor_models
from server.models.load.tuning import Tuned
from server.models.served import close
from server.observe.metrics import Metrics
from server.request import InferRequest
from server.scheduling.scheduler import Scheduler
from server.settings.options import Settings
from server.tensors import Array
from tests.fake_sessions import Scripted, spec, write_fake


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (limits, tensor_models):
        monkeypatch.setattr(one, "available_cores", lambda processes: 4)


def models_of(settings: Settings | None = None) -> tuple[Models, Metrics]:
    metrics = Metrics(lambda: True, "1")
    return Models(settings or Settings(), metrics), metrics


async def ask(model: ServedModel, array: Array) -> Array:
    answer: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
    model.submit(InferRequest((array,), len(array), answer.set_result))
    request = await answer
    if request.error:
        raise request.error
    assert request.outputs is not None
    return request.outputs[0]


INLINE = Settings(inline_below_us=1_000_000)
THREADS = Settings(inline_below_us=0, instances=2)
EACH_WAY = pytest.mark.parametrize("settings", [INLINE, THREADS], ids=["inline", "threads"])


class TestLoad:
    @EACH_WAY
    async def test_a_loaded_model_answers(self, tmp_path: Path, settings: Settings) -> None:
        models, _ = models_of(settings)
        model = await models.load(write_fake(tmp_path, "digits"))
        assert (model.name, model.version, model.fixed_shapes) == ("digits", "1", True)
        assert models.get("digits") is models.get("digits", "1") is models.default() is model
        assert models.all() == [model]
        rows = np.arange(8, dtype=np.float32).reshape(2, 4)
        np.testing.assert_array_equal(await ask(model, rows), rows * 2)
        await models.close()

    async def test_settings_reach_the_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options: list[BackendOptions] = []

        def load(_path: Path, given: BackendOptions) -> Session:
            options.append(given)
            return Scripted(declared=spec())

        monkeypatch.setattr(tensor_models, "loader", lambda _name: load)

        models, _ = models_of(Settings(name="mine", deadline_ms=1.5, max_batch_size=2, threads=3))
        model = await models.load(write_fake(tmp_path))
        assert (model.name, model.deadline_ns, model.max_batch_size) == ("mine", 1_500_000, 2)
        assert options == [BackendOptions(threads=3)]
        await models.close()

    async def test_a_tiny_model_answers_on_the_loop_whatever_instances_its_manifest_names(self, tmp_path: Path) -> None:
        models, _ = models_of(INLINE)
        model = await models.load(write_fake(tmp_path, batching=Batching((1, 2), instances=3)))
        assert not [one for one in threading.enumerate() if one.name.startswith("m-")]
        rows = np.ones((5, 4), np.float32)
        np.testing.assert_array_equal(await ask(model, rows), rows * 2)
        await models.close()

    async def test_names_that_are_not_there_are_refused(self, tmp_path: Path) -> None:
        models, _ = models_of(INLINE)
        with pytest.raises(UnknownModel, match="no model is loaded"):
            models.default()
        with pytest.raises(UnknownModel, match="no model named 'm' is loaded"):
            models.get("m")
        await models.load(write_fake(tmp_path))
        with pytest.raises(UnknownModel, match="no model named 'n' is loaded"):
            models.get("n")
        with pytest.raises(UnknownModel, match="model 'm' has no version '2'; ready: '1'"):
            models.get("m", "2")
        with pytest.raises(UnknownModel):
            await models.unload("n")
        await models.close()

    async def test_the_first_model_is_the_default_until_it_is_unloaded(self, tmp_path: Path) -> None:
        models, _ = models_of(INLINE)
        first = await models.load(write_fake(tmp_path / "a", "a"))
        second = await models.load(write_fake(tmp_path / "b", "b"))
        assert models.default() is first
        await models.unload("a")
        assert models.default() is second
        await models.close()
        assert models.all() == []

    @EACH_WAY
    async def test_a_name_that_is_taken_is_refused_and_the_first_model_stays_as_it_was(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        models, metrics = models_of(settings)
        model = await models.load(write_fake(tmp_path))
        before = ours(metrics)
        with pytest.raises(AlreadyLoaded, match="version '1' of model 'm' is loaded already"):
            await models.load(tmp_path)
        assert models.all() == [model]
        assert ours(metrics) == before
        rows = np.ones((1, 4), np.float32)
        np.testing.assert_array_equal(await ask(model, rows), rows * 2)
        await models.close()

    async def test_a_second_load_is_refused_before_anything_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sessions = scripted_sessions(monkeypatch)

        models, _ = models_of(THREADS)
        await models.load(write_fake(tmp_path))
        with pytest.raises(AlreadyLoaded):
            await models.load(tmp_path)
        assert [session.closed for session in sessions] == [0]
        await models.close()
        assert [session.closed for session in sessions] == [1]
        assert [one.name for one in threading.enumerate() if one.name.startswith("m-")] == []

    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            (lambda: Scripted(declared=spec(inputs=(-1, 5))), "other inputs or outputs than the manifest says"),
            (lambda: Scripted(largest=0), "cannot run its own samples"),
        ],
    )
    def test_a_load_that_fails_closes_its_session_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[], Scripted], reason: str
    ) -> None:
        session = wrong()
        monkeypatch.setattr(tensor_models, "loader", lambda _name: lambda _path, _options: session)

        async def go() -> None:
            models, metrics = models_of()
            before = ours(metrics)
            with pytest.raises(BrokenArtifact, match=reason):
                await models.load(write_fake(tmp_path))
            assert models.all() == []
            assert ours(metrics) == before

        asyncio.run(go())
        assert session.closed == 1

    def test_a_backend_that_this_build_does_not_have_is_refused(self, tmp_path: Path) -> None:
        write_fake(tmp_path)
        artifacts.write(tmp_path, replace(artifacts.read(tmp_path).manifest, backend="abacus"))
        models, _ = models_of()
        with pytest.raises(BrokenArtifact, match="unknown backend 'abacus'"):
            asyncio.run(load_only(models, tmp_path))

    async def test_requests_of_different_shapes_are_both_answered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_spec = spec(inputs=(-1, -1))
        session = Scripted(declared=model_spec)
        monkeypatch.setattr(tensor_models, "loader", lambda _name: lambda _path, _options: session)
        write_fake(tmp_path)
        artifacts.write(tmp_path, replace(artifacts.read(tmp_path).manifest, spec=model_spec))

        models, _ = models_of(INLINE)
        model = await models.load(tmp_path)
        assert not model.fixed_shapes
        session.seen.clear()
        await asyncio.gather(*(ask(model, np.zeros((1, width), np.float32)) for width in (3, 5)))
        assert {batch[0].shape for batch in session.seen} == {(1, 3), (1, 5)}
        await models.close()


@pytest.mark.usefixtures("four_cores")
class TestTuning:
    """Instances are tuned only where nobody has said how many, and the model is not for the event loop."""

    def loaded(self, root: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, artifact: Artifact) -> int:
        """The number of instances; tuning, where it is asked, says two."""
        monkeypatch.setattr(tensor_models, "loader", lambda _name: lambda _path, _options: Scripted())
        monkeypatch.setattr(tensor_models, "tune", lambda session, *_: Tuned(session, 2, 2))

        async def go() -> int:
            model = await asyncio.to_thread(Loader(settings).build, artifact, asyncio.get_running_loop())
            await close(model, 1.0)
            assert isinstance(model.scheduler, Scheduler)
            return model.scheduler.instances

        return asyncio.run(go())

    @pytest.mark.parametrize(
        ("settings", "batching", "instances"),
        [
            pytest.param(Settings(inline_below_us=0), None, 2, id="nobody says"),
            pytest.param(Settings(inline_below_us=0, tune_ms=0), None, 1, id="switched off"),
            pytest.param(Settings(inline_below_us=0, instances=3), None, 3, id="a setting says"),
            pytest.param(Settings(inline_below_us=0, threads=1), None, 1, id="threads are a word on it too"),
            pytest.param(Settings(inline_below_us=0), Batching((1, 2), 1, 1), 1, id="the manifest says"),
            pytest.param(Settings(inline_below_us=1_000_000), None, 1, id="it runs on the event loop"),
        ],
    )
    def test_who_decides(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        settings: Settings,
        batching: Batching | None,
        instances: int,
    ) -> None:
        manifest = Manifest("m", "1", "fake", "model.json", spec(), batching=batching)
        assert self.loaded(tmp_path, monkeypatch, settings, Artifact(tmp_path, manifest)) == instances


class TestUnload:
    @EACH_WAY
    async def test_an_unloaded_model_is_unknown_refuses_requests_and_is_in_no_metric(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        models, metrics = models_of(settings)
        before = ours(metrics)
        model = await models.load(write_fake(tmp_path))
        await models.unload("m")
        with pytest.raises(UnknownModel):
            models.get("m")
        with pytest.raises(NotReady):
            await ask(model, np.ones((1, 4), np.float32))
        with pytest.raises(ModelFailed):
            cast(Session, model.session).run([np.ones((1, 4), np.float32)])
        assert ours(metrics) == before

    @EACH_WAY
    def test_whatever_was_admitted_is_answered(self, tmp_path: Path, settings: Settings) -> None:
        async def go() -> list[Any]:
            models, _ = models_of(settings)
            model = await models.load(write_fake(tmp_path))
            asked = [asyncio.ensure_future(ask(model, np.ones((1, 4), np.float32))) for _ in range(20)]
            await asyncio.sleep(0)
            await models.unload("m")
            return await asyncio.gather(*asked)

        for answer in asyncio.run(go()):
            assert answer.tolist() == [[2.0] * 4]

    @EACH_WAY
    def test_memory_comes_back(self, tmp_path: Path, settings: Settings) -> None:
        models, metrics = models_of(settings)

        async def go() -> weakref.ref[Session]:
            model = await models.load(write_fake(tmp_path))
            await models.unload("m")
            return weakref.ref(cast(Session, model.session))

        session = asyncio.run(go())  # which also ends the threads that unload
        gc.collect()
        assert metrics.text()
        assert models.all() == []
        assert session() is None

    async def test_the_response_cache_is_emptied(self, tmp_path: Path) -> None:
        models, _ = models_of(Settings(cache_mb=1))
        cache = (await models.load(write_fake(tmp_path))).cache
        assert cache is not None
        cache._keep(b"a key", [np.ones((1, 4), np.float32)])
        await models.unload("m")
        assert (cache.bytes, len(cache._kept)) == (0, 0)

    async def test_a_model_can_be_loaded_again(self, tmp_path: Path) -> None:
        models, _ = models_of(INLINE)
        await models.load(write_fake(tmp_path))
        await models.unload("m")
        model = await models.load(tmp_path)
        rows = np.ones((1, 4), np.float32)
        np.testing.assert_array_equal(await ask(model, rows), rows * 2)
        await models.close()


def scripted_sessions(monkeypatch: pytest.MonkeyPatch) -> list[Scripted]:
    sessions: list[Scripted] = []

    def load(_path: Path, _options: BackendOptions) -> Session:
        sessions.append(Scripted())
        return sessions[-1]

    monkeypatch.setattr(tensor_models, "loader", lambda _name: load)
    return sessions


async def load_only(models: Models, path: Path) -> None:
    await models.load(path)


def ours(metrics: Metrics) -> list[str]:
    """The lines of the exposition that are not about the process."""
    return [line for line in metrics.text().decode().splitlines() if "process_" not in line]
