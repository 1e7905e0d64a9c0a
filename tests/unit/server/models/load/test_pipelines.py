"""Pipelines from their folders: in a manifest or on their own, opened, wired, asked, and closed as a whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server import artifact as artifacts
from server.artifact import MANIFEST, STEPS, Manifest
from server.errors import BadSetting, BrokenArtifact, NotReady
from server.models import Models, ServedModel, repository
from server.observe.metrics import Metrics
from server.request import InferRequest
from server.settings.options import Settings
from server.system.memory import file_bytes
from server.tensors import ModelSpec
from server.wiring import Pipeline
from tests import onnx_graphs
from tests.integration import sample_models

FIRST = {"name": "first", "backend": "fake", "file": "first.json"}
SECOND = {"name": "second", "artifact": "second", "inputs": {"x": "y"}}


def folder(root: Path, *steps: dict[str, Any]) -> Path:
    """Two fake models, of which each doubles: one a file, the other one an artifact; and a hand-written pipeline."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "first.json").write_text("{}")
    sample_models.fake(root / "second")
    (root / "pipeline.json").write_text(json.dumps({"steps": list(steps or (FIRST, SECOND))}))
    return root


def loaded(root: Path, use: Callable[[Models, ServedModel, Metrics], Any], settings: Settings | None = None) -> Any:
    """Load a folder, use it on its loop, and unload it."""

    async def go() -> Any:
        metrics = Metrics(lambda: True, "1")
        models = Models(settings or Settings(), metrics)
        model = await models.load(root)
        try:
            result = use(models, model, metrics)
            return await result if asyncio.iscoroutine(result) else result
        finally:
            await models.close()

    return asyncio.run(go())


async def ask(model: ServedModel, value: float) -> InferRequest:
    answer: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
    model.submit(InferRequest((np.full((1, 4), value, np.float32),), 1, answer.set_result))
    return await answer


@pytest.mark.parametrize("settings", [Settings(), Settings(inline_below_us=0)], ids=["inline", "threads"])
def test_a_folder_with_a_hand_written_file_is_a_model_named_after_the_folder(
    tmp_path: Path, settings: Settings
) -> None:
    async def use(_: Models, model: ServedModel, metrics: Metrics) -> None:
        answer = await ask(model, 3)
        assert answer.outputs is not None
        assert answer.outputs[0].tolist() == [[12.0] * 4]
        assert (model.name, model.version) == ("chain", "1")
        text = metrics.text().decode()
        assert 'slipway_step_batch_rows_count{model="chain",step="second",version="1"} 1.0' in text

    loaded(folder(tmp_path / "chain"), use, settings)


def test_a_manifest_may_hold_the_steps_and_its_digests_are_checked(tmp_path: Path) -> None:
    root = folder(tmp_path / "m")
    (root / "pipeline.json").unlink()
    declared = Pipeline.from_json({"steps": [FIRST, SECOND]})
    artifacts.write(root, Manifest("chain", "7", STEPS, MANIFEST, ModelSpec((), ()), pipeline=declared))
    read = artifacts.read(root)
    assert read.manifest.pipeline == declared
    assert {row.path for row in read.manifest.files} >= {"first.json", "second/model.json", "second/manifest.json"}
    artifacts.verify(read)
    assert file_bytes(read) > sum(row.bytes for row in read.manifest.files)
    loaded(root, lambda _, model, __: None)
    (root / "first.json").write_text('{"width": 4}')
    with pytest.raises(BrokenArtifact, match=r"first\.json has"):
        loaded(root, lambda _, model, __: None, Settings(verify_digests=True))


def test_a_manifest_may_point_at_the_file(tmp_path: Path) -> None:
    root = folder(tmp_path / "m")
    body = {"schema": 1, "name": "chain", "version": "2", "backend": "pipeline", "model": "pipeline.json"}
    (root / MANIFEST).write_text(json.dumps(body))
    assert loaded(root, lambda _, model, __: (model.name, model.version)) == ("chain", "2")


def test_what_a_manifest_says_of_inputs_must_be_so(tmp_path: Path) -> None:
    root = folder(tmp_path / "m")
    body: dict[str, Any] = {"schema": 1, "name": "chain", "version": "2", "backend": "pipeline"}
    body["inputs"] = [{"name": "z", "datatype": "FP32", "shape": [-1, 4]}]
    (root / MANIFEST).write_text(json.dumps(body))
    with pytest.raises(BrokenArtifact, match=r"other inputs than the steps have: x FP32 \[-1, 4\]"):
        loaded(root, lambda *_: None)


def test_a_folder_of_pipelines_is_a_repository(tmp_path: Path) -> None:
    folder(tmp_path / "chain" / "1")
    folder(tmp_path / "chain" / "2")
    found = repository.scan(tmp_path, Settings())
    assert [(one.name, one.version) for one in found] == [("chain", "1"), ("chain", "2")]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{**FIRST, "file": "none.json"}], "step 'first': there is no file 'none.json'"),
        ([{**FIRST, "backend": "fakes"}], "step 'first': unknown backend 'fakes'"),
        ([FIRST, {**SECOND, "artifact": "third"}], "step 'second': there is no artifact 'third'"),
        ([{"name": "again", "artifact": "."}], "step 'again': '.' is a pipeline itself"),
        ([FIRST, {**SECOND, "inputs": {}}, {**FIRST, "name": "third", "inputs": {"x": "w"}}], "step 'third' wants 'w'"),
    ],
)
def test_a_step_that_is_broken_is_named(tmp_path: Path, steps: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BrokenArtifact) as caught:
        loaded(folder(tmp_path / "m", *steps), lambda *_: None)
    assert message in str(caught.value)


def test_a_step_that_drops_rows_is_refused(tmp_path: Path) -> None:
    sample_models.positives(tmp_path / "m" / "model" / "model.onnx")
    (tmp_path / "m" / "pipeline.json").write_text(json.dumps({"steps": [{"name": "some", "artifact": "model"}]}))
    with pytest.raises(BrokenArtifact, match="step 'some': it does not give one row of output for each row of input"):
        loaded(tmp_path / "m", lambda *_: None)


def test_an_onnx_step_is_not_computed_on_the_cpu_where_a_gpu_is_asked_for(tmp_path: Path) -> None:
    sample_models.positives(tmp_path / "m" / "model.onnx")
    step = {"name": "some", "backend": "onnxruntime", "file": "model.onnx"}
    (tmp_path / "m" / "pipeline.json").write_text(json.dumps({"steps": [step]}))
    with pytest.raises(BadSetting, match="needs CUDAExecutionProvider"):
        loaded(tmp_path / "m", lambda *_: None, Settings(device="cuda"))


def test_after_unloading_nothing_is_admitted_and_every_step_is_closed(tmp_path: Path) -> None:
    async def use(models: Models, model: ServedModel, _: Metrics) -> None:
        pending = [asyncio.ensure_future(ask(model, value)) for value in range(20)]
        await asyncio.sleep(0)
        await models.unload("chain")
        answers = await asyncio.gather(*pending)
        assert [one.outputs is not None for one in answers] == [True] * 20
        with pytest.raises(NotReady):
            await ask(model, 1)

    loaded(folder(tmp_path / "chain"), use)


def test_dependent_rows_of_a_step_run_alone(tmp_path: Path) -> None:
    onnx_graphs.save(onnx_graphs.softmax_over_rows, tmp_path / "m" / "model" / "model.onnx")
    (tmp_path / "m" / "pipeline.json").write_text(json.dumps({"steps": [{"name": "only", "artifact": "model"}]}))

    async def use(_: Models, model: ServedModel, __: Metrics) -> None:
        answer: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
        rows = np.arange(12, dtype=np.float32).reshape(3, 4)
        model.submit(InferRequest((rows,), 3, answer.set_result))
        request = await answer
        assert request.outputs is not None
        assert request.outputs[0].tolist() == [[1.0] * 4] * 3

    loaded(tmp_path / "m", use)


def test_a_step_with_a_fixed_batch_takes_any_number_of_rows(tmp_path: Path) -> None:
    onnx_graphs.save(onnx_graphs.fixed(1), tmp_path / "m" / "model" / "model.onnx")
    (tmp_path / "m" / "pipeline.json").write_text(json.dumps({"steps": [{"name": "only", "artifact": "model"}]}))

    async def use(_: Models, model: ServedModel, __: Metrics) -> None:
        answer: asyncio.Future[InferRequest] = asyncio.get_running_loop().create_future()
        rows = np.arange(12, dtype=np.float32).reshape(3, 4)
        model.submit(InferRequest((rows,), 3, answer.set_result))
        request = await answer
        assert request.outputs is not None
        np.testing.assert_allclose(request.outputs[0], rows @ onnx_graphs.W43, rtol=1e-5)

    loaded(tmp_path / "m", use)
