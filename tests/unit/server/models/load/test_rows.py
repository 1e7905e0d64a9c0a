"""Rows: which models share runs among requests, and what decides it. ``tests/zoo`` has the graphs of many kinds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.artifact import Artifact, Batching, Manifest
from server.models.load import Loader
from server.models.repository import open_artifact
from server.models.served import ServedModel, close
from server.settings.options import Settings
from server.tensors import ModelSpec
from tests import onnx_graphs
from tests.onnx_graphs import Build

THREADS = Settings(inline_below_us=0, instances=1, threads=1)


def load(artifact: Artifact, loop: asyncio.AbstractEventLoop, settings: Settings = THREADS) -> ServedModel:
    return Loader(settings).build(artifact, loop)


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


@pytest.mark.parametrize("build", [onnx_graphs.noise, onnx_graphs.constant])
def test_answers_that_show_nothing_never_share_a_run(build: Build, tmp_path: Path) -> None:
    """Other answers at every run, and the same answer for every row."""
    independent, reason, most = served(onnx_graphs.save(build, tmp_path / "model.onnx"), how)
    assert (independent, most) == (False, 1)
    assert reason


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
