"""The example of a model: stored samples cut to one row, made-up inputs without them, and nothing that is too large."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from server import artifact as artifacts
from server.artifact import Artifact, Batching, Manifest
from server.models import ServedModel
from server.models.example import MOST_VALUES, example
from server.tensors import BY_NAME, DType, ModelSpec, TensorSpec
from tests.fake_models import FakeLoader

FP32, BYTES = BY_NAME["FP32"], BY_NAME["BYTES"]


async def served(root: Path, dtype: DType, shape: tuple[int, ...], samples: np.ndarray | None = None) -> ServedModel:
    spec = ModelSpec((TensorSpec("x", dtype, shape),), (TensorSpec("y", FP32, (-1, 1)),))
    (root / "model.json").write_text("{}")
    if samples is not None:
        arrays: Any = {"input:x": samples}
        np.savez(root / artifacts.SAMPLES, **arrays)
    written = artifacts.write(root, Manifest("m", "1", "fake", "model.json", spec, batching=Batching((1, 2))))
    loader = FakeLoader()
    loader.spec = spec
    return loader.build(Artifact(written.root, written.manifest, declared=True), asyncio.get_running_loop())


async def test_the_first_row_of_the_samples_is_the_example(tmp_path: Path) -> None:
    model = await served(tmp_path, FP32, (-1, 2), np.array([[1, 2], [3, 4]], np.float32))
    found = example(model)
    assert found is not None
    assert found.stored
    assert found.arrays[0].tolist() == [[1.0, 2.0]]


async def test_without_samples_values_are_made_for_the_specs(tmp_path: Path) -> None:
    found = example(await served(tmp_path, BYTES, (-1, 1)))
    assert found is not None
    assert not found.stored
    assert found.arrays[0].shape == (1, 1)


async def test_samples_that_were_broken_after_the_load_are_not_used(tmp_path: Path) -> None:
    model = await served(tmp_path, FP32, (-1, 2), np.zeros((1, 2), np.float32))
    (tmp_path / artifacts.SAMPLES).write_bytes(b"PK\x03\x04 no archive")
    found = example(model)
    assert found is not None
    assert not found.stored


async def test_a_model_that_takes_very_much_has_no_example(tmp_path: Path) -> None:
    assert example(await served(tmp_path, FP32, (-1, MOST_VALUES + 1))) is None
