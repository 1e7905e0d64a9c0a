"""Rows: which models share runs among requests, on graphs of many kinds, and that no neighbour changes an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from server.artifact import Artifact, Batching, Manifest
from server.backends.synthetic import make_inputs
from server.errors import BrokenArtifact
from server.models.load import Loader
from server.models.repository import open_artifact
from server.models.served import ServedModel, close
from server.request import InferRequest
from server.settings.options import Settings
from server.tensors import Array, ModelSpec
from tests import onnx_graphs
from tests.onnx_graphs import DEPENDENT, INDEPENDENT, REFUSED, SERVED, Build

THREADS = Settings(inline_below_us=0, instances=1, threads=1)
ALL = {**INDEPENDENT, **DEPENDENT}


def load(artifact: Artifact, loop: asyncio.AbstractEventLoop, settings: Settings = THREADS) -> ServedModel:
    return Loader(settings).build(artifact, loop)


async def ask(model: ServedModel, arrays: Sequence[Array]) -> list[Array]:
    answer: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
    rows = len(arrays[0]) if model.spec.batchable else 1
    model.submit(InferRequest(tuple(arrays), rows, answer.set_result))
    request = await answer
    if request.error is not None:
        raise request.error
    assert request.outputs is not None
    return request.outputs


def served(path: Path, use: Any, settings: Settings = THREADS, **changes: Any) -> Any:
    """Load what lies at a path, use it on its loop, and close it."""

    async def go() -> Any:
        artifact = replace(open_artifact(path, settings), **changes)
        model = await asyncio.to_thread(load, artifact, asyncio.get_running_loop(), settings)
        try:
            return await use(model)
        finally:
            await close(model, 1.0)

    return asyncio.run(go())


async def how(model: ServedModel) -> tuple[bool, str, int]:
    return model.independent, model.batching_reason, model.max_batch_size


@pytest.mark.parametrize("name", INDEPENDENT)
def test_independent_rows_share_runs(name: str, tmp_path: Path) -> None:
    path = onnx_graphs.save(INDEPENDENT[name], tmp_path / "model.onnx")
    assert served(path, how) == (True, "", 32)


@pytest.mark.parametrize("name", DEPENDENT)
def test_rows_that_are_not_shown_to_be_independent_never_share_a_run(name: str, tmp_path: Path) -> None:
    path = onnx_graphs.save(DEPENDENT[name], tmp_path / "model.onnx")
    independent, reason, most = served(path, how)
    assert (independent, most) == (False, 1)
    assert reason


def requests(spec: ModelSpec) -> list[list[Array]]:
    """Requests of 1 to 5 rows, or of other sizes where rows are none."""
    if spec.batchable:
        return [make_inputs(spec, rows, 8, seed=rows) for rows in (1, 2, 3, 5, 1, 4)]
    return [make_inputs(spec, 1, size, seed=size) for size in (8, 5, 3)] * 2


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("noise", "long_rows", "convolution")])
def test_answers_under_load_are_those_of_the_model_alone(name: str, tmp_path: Path) -> None:
    path = onnx_graphs.save(ALL[name], tmp_path / "model.onnx")
    session = ort.InferenceSession(str(path))
    names = [one.name for one in session.get_inputs()]

    async def use(model: ServedModel) -> None:
        asked = requests(model.spec)
        answers = await asyncio.gather(*(ask(model, arrays) for arrays in asked for _ in range(3)))
        for index, answer in enumerate(answers):
            wanted = session.run(None, dict(zip(names, asked[index // 3], strict=True)))
            for one, other in zip(answer, wanted, strict=True):
                assert one.shape == other.shape
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)

    served(path, use, replace(THREADS, max_queue_delay_us=2_000))


@pytest.mark.parametrize("name", SERVED)
def test_unusual_signatures_are_served(name: str, tmp_path: Path) -> None:
    path = onnx_graphs.save(SERVED[name], tmp_path / "model.onnx")
    assert served(path, how) == (True, "", 32)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_served_is_refused_with_its_remedy(name: str, tmp_path: Path) -> None:
    build, remedy = REFUSED[name]
    path = onnx_graphs.save(build, tmp_path / "model.onnx")
    with pytest.raises(BrokenArtifact, match=remedy):
        served(path, how)


class TestFixedBatch:
    @pytest.mark.parametrize("rows", [1, 2, 5])
    def test_a_batch_of_one_is_run_row_by_row(self, rows: int, tmp_path: Path) -> None:
        path = onnx_graphs.save(onnx_graphs.fixed(1), tmp_path / "model.onnx")
        x = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)

        async def use(model: ServedModel) -> None:
            assert (model.independent, model.max_batch_size, model.spec.inputs[0].shape) == (True, 1, (-1, 4))
            (y,) = await ask(model, [x])
            np.testing.assert_allclose(y, x @ onnx_graphs.W43, rtol=1e-5, atol=1e-6)

        served(path, use)

    @pytest.mark.parametrize("build", [onnx_graphs.fixed(3), onnx_graphs.fixed_dependent])
    def test_a_larger_fixed_batch_takes_just_that(self, build: Build, tmp_path: Path) -> None:
        path = onnx_graphs.save(build, tmp_path / "model.onnx")

        async def use(model: ServedModel) -> None:
            assert (model.independent, model.max_batch_size, model.spec.inputs[0].shape) == (False, 1, (3, 4))
            (y,) = await ask(model, [np.ones((3, 4), np.float32)])
            assert len(y) == 3

        served(path, use)


class TestSmallBatches:
    """``--max-batch-size`` below the usual batch cuts requests, so it needs the same proof."""

    SETTINGS = replace(THREADS, max_batch_size=2)

    def test_a_model_that_only_differs_in_larger_batches_is_found(self, tmp_path: Path) -> None:
        path = onnx_graphs.save(onnx_graphs.different_from_twenty_rows, tmp_path / "model.onnx")
        independent, reason, most = served(path, how, self.SETTINGS)
        assert (independent, most) == (False, 1)
        assert "in a full batch" in reason

    def test_a_model_that_takes_few_rows_keeps_its_batches(self, tmp_path: Path) -> None:
        path = onnx_graphs.save(onnx_graphs.at_most_two_rows, tmp_path / "model.onnx")
        assert served(path, how, self.SETTINGS) == (True, "", 2)


class TestDeclared:
    def test_the_setting_switches_sharing_off(self, tmp_path: Path) -> None:
        path = onnx_graphs.save(onnx_graphs.perceptron, tmp_path / "model.onnx")
        assert served(path, how, replace(THREADS, batching="off")) == (False, "--batching off", 1)

    @pytest.mark.parametrize(
        ("text", "most"),
        [
            ("max_batch_size: 0\n", None),
            ('name: "m"\nmax_batch_size : 4 dynamic_batching { }', 4),
            ("# max_batch_size: 0\nplatform: 'onnxruntime_onnx'", 32),
        ],
    )
    def test_the_config_of_a_triton_repository_is_obeyed(self, text: str, most: int | None, tmp_path: Path) -> None:
        path = onnx_graphs.save(onnx_graphs.perceptron, tmp_path / "m" / "1" / "model.onnx")
        (tmp_path / "m" / "config.pbtxt").write_text(text)
        expected = (False, "config.pbtxt has max_batch_size: 0", 1) if most is None else (True, "", most)
        assert served(path.parent, how) == expected

    @pytest.mark.parametrize(
        ("build", "declared", "reason"),
        [
            (onnx_graphs.constant, True, ""),
            (onnx_graphs.perceptron, False, "output 'y' of a row alone differs"),
        ],
    )
    def test_the_manifest_wins_over_the_proof(self, build: Build, declared: bool, reason: str, tmp_path: Path) -> None:
        path = onnx_graphs.save(build, tmp_path / "model.onnx")
        spec = open_spec(path)
        batching = Batching((1, 8), independent=declared, reason=reason)
        manifest = Manifest("m", "1", "onnxruntime", "model.onnx", spec, batching=batching)
        assert Manifest.from_json(manifest.to_json()).batching == batching
        most = 8 if declared else 1
        assert served(path, how, manifest=manifest, declared=True) == (declared, reason, most)


def open_spec(path: Path) -> ModelSpec:
    from server.backends import BackendOptions, loader

    session = loader("onnxruntime")(path, BackendOptions())
    try:
        return session.spec
    finally:
        session.close()


class TestMissingValues:
    async def flags(self, model: ServedModel) -> list[tuple[bool, bool]]:
        return [(one.missing, one.infinite) for one in model.spec.inputs]

    @pytest.mark.parametrize(
        ("build", "settings", "flags"),
        [
            pytest.param(onnx_graphs.tree, THREADS, [(True, True)], id="a tree takes NaN"),
            pytest.param(onnx_graphs.tree, replace(THREADS, missing="refuse"), [(False, False)], id="not if refused"),
            pytest.param(onnx_graphs.perceptron, THREADS, [(False, False)], id="a network does not"),
            pytest.param(onnx_graphs.classifier, THREADS, [(False, False)], id="nor does a classifier"),
            pytest.param(onnx_graphs.embedding, THREADS, [(False, False)] * 2, id="nor do integers"),
            pytest.param(onnx_graphs.additive_mask, THREADS, [(False, False), (False, True)], id="a mask is infinite"),
        ],
    )
    def test_inputs_that_take_them_are_found(
        self, build: Build, settings: Settings, flags: list[tuple[bool, bool]], tmp_path: Path
    ) -> None:
        path = onnx_graphs.save(build, tmp_path / "model.onnx")
        assert served(path, self.flags, settings) == flags
