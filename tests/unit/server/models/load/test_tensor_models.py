"""One model: what is opened, how it is planned and warmed up, what loading and unloading leave behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server import artifact as artifacts
from server.artifact import Artifact, Batching, Manifest
from server.backends import BackendOptions, Session
from server.errors import BrokenArtifact
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


class TestLoad:
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


async def test_the_response_cache_of_an_unloaded_model_is_emptied(tmp_path: Path) -> None:
    models, _ = models_of(Settings(cache_mb=1))
    cache = (await models.load(write_fake(tmp_path))).cache
    assert cache is not None
    cache._keep(b"a key", [np.ones((1, 4), np.float32)])
    await models.unload("m")
    assert (cache.bytes, len(cache._kept)) == (0, 0)


async def load_only(models: Models, path: Path) -> None:
    await models.load(path)


def ours(metrics: Metrics) -> list[str]:
    """The lines of the exposition that are not about the process."""
    return [line for line in metrics.text().decode().splitlines() if "process_" not in line]
