"""One model: what is opened, how it is planned and warmed up, what loading and unloading leave behind."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from server import artifact as artifacts
from server.artifact import SAMPLES, Artifact, Batching, CostPoint, Manifest
from server.backends import BackendOptions, Session
from server.errors import AlreadyLoaded, BrokenArtifact, ModelFailed, NotReady, UnknownModel, UnprocessableInput
from server.models import Models, ServedModel
from server.models.load import Loader, limits, tensor_models
from server.models.load import warmup as module
from server.models.load.limits import INLINE_LIMIT, batching_for, inline_within
from server.models.load.tuning import Tuned
from server.models.load.warmup import UNMEASURED_NS, WARM_BUDGET_NS, WARM_RUNS, warm_up
from server.models.repository import open_artifact
from server.models.served import close
from server.observe.metrics import Metrics
from server.request import InferRequest
from server.scheduling.scheduler import Scheduler
from server.settings.options import Settings
from server.tensors import BY_NAME, Array, ModelSpec, TensorSpec

FP32 = BY_NAME["FP32"]
MS = 1_000_000


def spec(inputs: tuple[int, ...] = (-1, 4), outputs: tuple[int, ...] = (-1, 4), dtype: str = "FP32") -> ModelSpec:
    return ModelSpec((TensorSpec("x", BY_NAME[dtype], inputs),), (TensorSpec("y", FP32, outputs),))


class Clock:
    """Time that passes only inside a scripted session."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


class Scripted:
    """A session that follows a script: what a run costs, refuses and returns, by its number of rows."""

    def __init__(
        self,
        clock: Clock | None = None,
        declared: ModelSpec | None = None,
        cost_ns: Callable[[int], int] = lambda rows: 0,
        largest: int = 1 << 30,
        rows_out: Callable[[int], int] = lambda rows: rows,
    ) -> None:
        self.spec = declared or spec()
        self.seen: list[list[Array]] = []
        self.closed = 0
        self._clock = clock or Clock()
        self._cost_ns = cost_ns
        self._largest = largest
        self._rows_out = rows_out

    def run(self, batch: Sequence[Array]) -> list[Array]:
        rows = len(batch[0]) if batch[0].ndim else 1
        self.seen.append(list(batch))
        self._clock.now_ns += self._cost_ns(rows)
        if rows > self._largest:
            raise UnprocessableInput("too many rows")
        return [np.zeros((self._rows_out(rows), 4), np.float32)]

    def close(self) -> None:
        self.closed += 1

    @property
    def sizes(self) -> list[int]:
        return sorted({len(batch[0]) for batch in self.seen})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "perf_counter_ns", made)
    return made


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (limits, tensor_models):
        monkeypatch.setattr(one, "available_cores", lambda: 4)


def bare(root: Path = Path("/nowhere")) -> Artifact:
    return Artifact(root, Manifest("m", "1", "fake", "model.onnx", ModelSpec((), ())), declared=False)


def declared(root: Path = Path("/nowhere"), model: ModelSpec | None = None) -> Artifact:
    return Artifact(root, Manifest("m", "1", "fake", "model.json", model or spec()))


def write_fake(root: Path, name: str = "m", batching: Batching | None = None, **fields: Any) -> Path:
    """An artifact of the fake backend, which doubles four numbers a row."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "model.json").write_text(json.dumps(fields))
    model = ModelSpec((TensorSpec("x", FP32, (-1, 4)),), (TensorSpec("y", FP32, (-1, 4)),))
    artifacts.write(root, Manifest(name, "1", "fake", "model.json", model, batching=batching))
    return root


def write_samples(root: Path, array: Any, name: str = "x") -> None:
    arrays: dict[str, Any] = {f"input:{name}": array}
    np.savez(root / SAMPLES, **arrays)


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


class TestOpen:
    def test_a_directory_with_a_manifest(self, tmp_path: Path) -> None:
        artifact = open_artifact(write_fake(tmp_path, "digits"), Settings())
        assert artifact.declared
        assert artifact.manifest.name == "digits"

    def test_digests_are_compared_unless_switched_off(self, tmp_path: Path) -> None:
        write_fake(tmp_path)
        (tmp_path / "model.json").write_bytes(b"[]")
        with pytest.raises(BrokenArtifact, match=r"model\.json differs from its SHA-256"):
            open_artifact(tmp_path, Settings())
        assert open_artifact(tmp_path, Settings(verify_digests=False)).declared

    @pytest.mark.parametrize("inside", ["model.onnx", "digits.onnx"])
    def test_a_directory_with_one_bare_model_and_the_file_itself(self, tmp_path: Path, inside: str) -> None:
        (tmp_path / inside).write_bytes(b"")
        for path in (tmp_path, tmp_path / inside):
            artifact = open_artifact(path, Settings())
            assert not artifact.declared
            assert artifact.model_path == tmp_path / inside
            assert artifact.manifest.backend == "onnxruntime"
            assert artifact.manifest.name == inside.removesuffix(".onnx")

    @pytest.mark.parametrize(("files", "found"), [([], "neither"), (["a.onnx", "b.onnx"], "2 of them")])
    def test_a_directory_with_no_model_or_several_is_refused(
        self, tmp_path: Path, files: list[str], found: str
    ) -> None:
        for name in files:
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(BrokenArtifact, match=f"must hold a manifest.json or one .onnx file, it holds {found}"):
            open_artifact(tmp_path, Settings())

    def test_a_path_that_is_not_there_is_refused_saying_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(BrokenArtifact, match=r"there is no model at .*: pass --model DIR, or mount one there"):
            open_artifact(tmp_path / "nothing", Settings())

    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.pt").write_bytes(b"")
        with pytest.raises(BrokenArtifact, match=r"model\.pt is not an \.onnx file"):
            open_artifact(tmp_path / "model.pt", Settings())


@pytest.mark.usefixtures("four_cores")
class TestPlan:
    MEASURED = Batching((1, 4, 16), instances=2, threads=2)

    @pytest.mark.parametrize(
        ("settings", "batching", "expected"),
        [
            pytest.param(Settings(), None, Batching((1, 2, 4, 8, 16, 32), 1, 4), id="nothing is known"),
            pytest.param(Settings(), MEASURED, MEASURED, id="the manifest's"),
            pytest.param(Settings(instances=4), None, Batching((1, 2, 4, 8, 16, 32), 4, 1), id="cores are shared out"),
            pytest.param(Settings(instances=9), None, Batching((1, 2, 4, 8, 16, 32), 9, 1), id="never below a thread"),
            pytest.param(Settings(instances=1), MEASURED, Batching((1, 4, 16), 1, 2), id="instances set"),
            pytest.param(Settings(instances=4), MEASURED, Batching((1, 4, 16), 4, 1), id="threads no more than fit"),
            pytest.param(Settings(threads=8), MEASURED, Batching((1, 4, 16), 2, 8), id="threads set win over all"),
            pytest.param(Settings(max_batch_size=8), MEASURED, Batching((1, 4, 8), 2, 2), id="a smaller largest batch"),
            pytest.param(Settings(max_batch_size=64), MEASURED, Batching((1, 4, 16, 64), 2, 2), id="a larger one"),
            pytest.param(Settings(max_batch_size=4), MEASURED, Batching((1, 4), 2, 2), id="one that was measured"),
            pytest.param(Settings(max_batch_size=1), MEASURED, Batching((1,), 2, 2), id="no batches"),
        ],
    )
    def test_settings_win_over_the_manifest_and_that_over_what_fits(
        self, settings: Settings, batching: Batching | None, expected: Batching
    ) -> None:
        manifest = replace(declared().manifest, batching=batching)
        assert batching_for(manifest, settings) == expected


class TestWarmUp:
    SIZES = Batching((1, 2, 4, 8))

    def test_every_batch_size_is_run_and_measured(self, clock: Clock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: 1000 + 10 * rows)
        largest, seeds, _ = warm_up(session, declared(), self.SIZES)
        assert largest == 8
        assert seeds == [(size, 1000 + 10 * size) for size in self.SIZES.batch_sizes]
        assert len(session.seen) == 4 * (1 + WARM_RUNS)

    def test_the_cost_is_the_median_without_the_first_run(self, clock: Clock) -> None:
        costs = iter([999 * MS // 10, 5, 1, 9, 7, 3])
        session = Scripted(clock, cost_ns=lambda rows: next(costs))
        assert warm_up(session, declared(), Batching((1,))) == (1, [(1, 5)], True)

    def test_a_slow_model_is_measured_at_fewer_sizes_and_keeps_its_largest_batch(self, clock: Clock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: WARM_BUDGET_NS // 5 * rows)
        largest, seeds, _ = warm_up(session, declared(), self.SIZES)
        assert largest == 8
        assert [size for size, _ in seeds] == [1, 2]
        assert session.sizes == [1, 2]

    def test_made_up_inputs_are_zeros_and_eight_of_everything_variable(self, clock: Clock) -> None:
        session = Scripted(clock, spec(inputs=(-1, -1, 3), dtype="INT64"))
        warm_up(session, bare(), Batching((1, 2)))
        assert {batch[0].shape for batch in session.seen} == {(1, 8, 3), (2, 8, 3)}
        assert all(batch[0].dtype == np.int64 and not batch[0].any() for batch in session.seen)

    def test_made_up_texts_are_empty(self, clock: Clock) -> None:
        session = Scripted(clock, spec(dtype="BYTES"))
        warm_up(session, bare(), Batching((2,)))
        assert session.seen[0][0].tolist() == [[""] * 4] * 2

    def test_a_model_without_a_batch_axis_is_run_as_it_is(self, clock: Clock) -> None:
        session = Scripted(clock, spec(inputs=(2, 4), outputs=(2, 4)), cost_ns=lambda rows: 70)
        assert warm_up(session, bare(), self.SIZES) == (1, [(1, 70)], True)
        assert session.seen[0][0].shape == (2, 4)

    def test_a_model_that_returns_other_rows_than_it_got_never_shares_a_run(self, clock: Clock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: 70, rows_out=lambda rows: min(rows, 2))
        assert warm_up(session, bare(), self.SIZES) == (1, [(1, 70)], False)

    def test_also_when_its_smallest_size_is_not_one(self, clock: Clock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: 70, rows_out=lambda rows: min(rows, 4))
        assert warm_up(session, bare(), Batching((4, 8))) == (1, [(1, UNMEASURED_NS)], False)

    def test_sizes_beyond_the_sweep_come_from_the_manifest_scaled_to_this_machine(self, clock: Clock) -> None:
        manifest_costs = (CostPoint(1, 10.0, 11.0), CostPoint(4, 20.0, 21.0), CostPoint(8, 30.0, 31.0))
        session = Scripted(clock, cost_ns=lambda rows: WARM_BUDGET_NS)
        artifact = declared()
        artifact = replace(artifact, manifest=replace(artifact.manifest, cost=manifest_costs))
        _, seeds, _ = warm_up(session, artifact, self.SIZES)
        assert seeds == [(1, WARM_BUDGET_NS), (4, 2 * WARM_BUDGET_NS), (8, 3 * WARM_BUDGET_NS)]

    def test_a_bare_model_that_refuses_everything_made_up_is_served_unmeasured(self, clock: Clock) -> None:
        assert warm_up(Scripted(clock, largest=0), bare(), self.SIZES) == (
            8,
            [(1, UNMEASURED_NS), (8, UNMEASURED_NS)],
            True,
        )

    def test_a_bare_model_that_refuses_a_size_is_never_given_one_above_its_largest(self, clock: Clock) -> None:
        session = Scripted(clock, cost_ns=lambda rows: 70, largest=2)
        assert warm_up(session, bare(), self.SIZES) == (2, [(1, 70), (2, 70)], True)

    def test_an_artifact_that_cannot_run_a_size_that_it_names_is_broken(self, clock: Clock) -> None:
        with pytest.raises(BrokenArtifact, match="cannot run its own samples at batch size 4: too many rows"):
            warm_up(Scripted(clock, largest=2), declared(), self.SIZES)

    def test_samples_of_the_artifact_are_repeated_to_every_size(self, clock: Clock, tmp_path: Path) -> None:
        rows = np.arange(8, dtype=np.float32).reshape(2, 4)
        write_samples(tmp_path, rows)
        session = Scripted(clock)
        warm_up(session, declared(tmp_path), Batching((1, 3)))
        np.testing.assert_array_equal(session.seen[0][0], rows[:1])
        np.testing.assert_array_equal(session.seen[-1][0], rows[[0, 1, 0]])
        assert session.seen[0][0].dtype == np.float32

    def test_samples_are_given_in_the_models_dtype_and_shape(self, clock: Clock, tmp_path: Path) -> None:
        write_samples(tmp_path, np.float64(3))
        model = spec(inputs=(), outputs=(1, 4))
        session = Scripted(clock, model)
        warm_up(session, declared(tmp_path, model), Batching((1,)))
        assert session.seen[0][0].shape == ()
        assert session.seen[0][0].dtype == np.float32

    def test_samples_of_texts(self, clock: Clock, tmp_path: Path) -> None:
        write_samples(tmp_path, np.array([["a", "b", "c", "d"]]))
        model = spec(dtype="BYTES")
        session = Scripted(clock, model)
        warm_up(session, declared(tmp_path, model), Batching((1,)))
        assert session.seen[0][0].dtype == object
        assert session.seen[0][0].tolist() == [["a", "b", "c", "d"]]

    def test_samples_that_lack_an_input_are_refused(self, tmp_path: Path) -> None:
        write_samples(tmp_path, np.zeros(4, np.float32), name="other")
        with pytest.raises(BrokenArtifact, match=r"samples\.npz lacks an input: .*input:x"):
            warm_up(Scripted(), declared(tmp_path), self.SIZES)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"garbage", b"\x93NUMPY\x01\x00"])
    def test_unreadable_samples_are_refused(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / SAMPLES).write_bytes(content)
        with pytest.raises(BrokenArtifact, match=r"samples\.npz cannot be read"):
            warm_up(Scripted(), declared(tmp_path), self.SIZES)

    def test_samples_that_are_one_array_or_pickled_or_not_numbers_are_refused(self, tmp_path: Path) -> None:
        texts, pickled = np.array([["a", "b", "c", "d"]]), np.array([{}], object)
        with (tmp_path / SAMPLES).open("wb") as file:
            np.save(file, np.zeros(4))
        with pytest.raises(BrokenArtifact, match=r"samples\.npz cannot be read"):
            warm_up(Scripted(), declared(tmp_path), self.SIZES)
        for wrong in (texts, pickled):
            write_samples(tmp_path, wrong)
            with pytest.raises(BrokenArtifact, match=r"samples\.npz cannot be read"):
                warm_up(Scripted(), declared(tmp_path), self.SIZES)


class TestInline:
    LIMIT_NS = Settings().inline_below_us * 1000

    def inline(self, costs_ns: dict[int, float], largest: int = 8, instances: int = 0) -> tuple[bool, int]:
        return inline_within(list(costs_ns.items()), largest, instances, self.LIMIT_NS)

    def test_a_tiny_model_runs_on_the_loop(self) -> None:
        assert self.inline({1: self.LIMIT_NS, 8: self.LIMIT_NS}) == (True, 8)

    def test_a_model_above_the_limit_does_not(self) -> None:
        assert self.inline({1: self.LIMIT_NS + 1, 8: 9 * self.LIMIT_NS}) == (False, 8)

    def test_several_instances_that_are_asked_for_need_threads(self) -> None:
        assert self.inline({1: 1, 8: 1}, instances=1) == (True, 8)
        assert self.inline({1: 1, 8: 1}, instances=2) == (False, 8)

    def test_batches_on_the_loop_are_no_larger_than_the_loop_can_bear(self) -> None:
        limit = INLINE_LIMIT * self.LIMIT_NS
        assert self.inline({1: 1000, 4: limit, 8: limit + 1}) == (True, 4)

    def test_nor_larger_than_the_model_takes(self) -> None:
        assert self.inline({1: 1000, 2: 1000, 4: 1000}, largest=1) == (True, 1)

    def test_inline_can_be_switched_off(self) -> None:
        assert inline_within([(1, 1.0)], 8, 0, 0) == (False, 8)


INLINE = Settings(inline_below_us=1_000_000)
THREADS = Settings(inline_below_us=0, instances=2)
EACH_WAY = pytest.mark.parametrize("settings", [INLINE, THREADS], ids=["inline", "threads"])


class TestLoad:
    @EACH_WAY
    def test_a_loaded_model_answers(self, tmp_path: Path, settings: Settings) -> None:
        async def go() -> None:
            models, _ = models_of(settings)
            model = await models.load(write_fake(tmp_path, "digits"))
            assert (model.name, model.version, model.fixed_shapes) == ("digits", "1", True)
            assert models.get("digits") is models.get("digits", "1") is models.default() is model
            assert models.all() == [model]
            rows = np.arange(8, dtype=np.float32).reshape(2, 4)
            np.testing.assert_array_equal(await ask(model, rows), rows * 2)
            await models.close()

        asyncio.run(go())

    def test_settings_reach_the_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        options: list[BackendOptions] = []

        def load(_path: Path, given: BackendOptions) -> Session:
            options.append(given)
            return Scripted(declared=spec())

        monkeypatch.setattr(tensor_models, "loader", lambda _name: load)

        async def go() -> None:
            models, _ = models_of(Settings(name="mine", deadline_ms=1.5, max_batch_size=2, threads=3))
            model = await models.load(write_fake(tmp_path))
            assert (model.name, model.deadline_ns, model.max_batch_size) == ("mine", 1_500_000, 2)
            assert options == [BackendOptions(threads=3)]
            await models.close()

        asyncio.run(go())

    def test_a_tiny_model_answers_on_the_loop_whatever_instances_its_manifest_names(self, tmp_path: Path) -> None:
        async def go() -> None:
            models, _ = models_of(INLINE)
            model = await models.load(write_fake(tmp_path, batching=Batching((1, 2), instances=3)))
            assert not [one for one in threading.enumerate() if one.name.startswith("m-")]
            rows = np.ones((5, 4), np.float32)
            np.testing.assert_array_equal(await ask(model, rows), rows * 2)
            await models.close()

        asyncio.run(go())

    def test_names_that_are_not_there_are_refused_with_those_that_are(self, tmp_path: Path) -> None:
        async def go() -> None:
            models, _ = models_of(INLINE)
            with pytest.raises(UnknownModel, match="no model is loaded"):
                models.default()
            with pytest.raises(UnknownModel, match="no model named 'm' is loaded; loaded: none yet"):
                models.get("m")
            await models.load(write_fake(tmp_path))
            with pytest.raises(UnknownModel, match="no model named 'n' is loaded; loaded: m"):
                models.get("n")
            with pytest.raises(UnknownModel, match="model 'm' has no version '2'; ready: '1'"):
                models.get("m", "2")
            with pytest.raises(UnknownModel):
                await models.unload("n")
            await models.close()

        asyncio.run(go())

    def test_the_first_model_is_the_default_until_it_is_unloaded(self, tmp_path: Path) -> None:
        async def go() -> None:
            models, _ = models_of(INLINE)
            first = await models.load(write_fake(tmp_path / "a", "a"))
            second = await models.load(write_fake(tmp_path / "b", "b"))
            assert models.default() is first
            await models.unload("a")
            assert models.default() is second
            await models.close()
            assert models.all() == []

        asyncio.run(go())

    @EACH_WAY
    def test_a_name_that_is_taken_is_refused_and_the_first_model_stays_as_it_was(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        async def go() -> None:
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

        asyncio.run(go())

    def test_a_second_load_is_refused_before_anything_is_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sessions = scripted_sessions(monkeypatch)

        async def go() -> None:
            models, _ = models_of(THREADS)
            await models.load(write_fake(tmp_path))
            with pytest.raises(AlreadyLoaded):
                await models.load(tmp_path)
            assert [session.closed for session in sessions] == [0]
            await models.close()
            assert [session.closed for session in sessions] == [1]
            assert [one.name for one in threading.enumerate() if one.name.startswith("m-")] == []

        asyncio.run(go())

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

    def test_requests_of_different_shapes_are_both_answered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_spec = spec(inputs=(-1, -1))
        session = Scripted(declared=model_spec)
        monkeypatch.setattr(tensor_models, "loader", lambda _name: lambda _path, _options: session)
        write_fake(tmp_path)
        artifacts.write(tmp_path, replace(artifacts.read(tmp_path).manifest, spec=model_spec))

        async def go() -> None:
            models, _ = models_of(INLINE)
            model = await models.load(tmp_path)
            assert not model.fixed_shapes
            session.seen.clear()
            await asyncio.gather(*(ask(model, np.zeros((1, width), np.float32)) for width in (3, 5)))
            assert {batch[0].shape for batch in session.seen} == {(1, 3), (1, 5)}
            await models.close()

        asyncio.run(go())


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
    def test_an_unloaded_model_is_unknown_refuses_requests_and_is_in_no_metric(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        async def go() -> None:
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

        asyncio.run(go())

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

        session = asyncio.run(go())  # which also ends the threads that load and unload
        gc.collect()
        assert metrics.exposition()
        assert models.all() == []
        assert session() is None

    def test_a_model_can_be_loaded_again(self, tmp_path: Path) -> None:
        async def go() -> None:
            models, _ = models_of(INLINE)
            await models.load(write_fake(tmp_path))
            await models.unload("m")
            model = await models.load(tmp_path)
            rows = np.ones((1, 4), np.float32)
            np.testing.assert_array_equal(await ask(model, rows), rows * 2)
            await models.close()

        asyncio.run(go())


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
    return [line for line in metrics.exposition().decode().splitlines() if "process_" not in line]
