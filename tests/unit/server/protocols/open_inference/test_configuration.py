"""The configuration document: Triton's fields, from how the model is really served."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from server.artifact import Artifact, Manifest
from server.models import ServedModel
from server.observe.choices import Choices
from server.protocols.open_inference.configuration import configuration
from server.tensors import BF16, BY_NAME, ModelSpec, TensorSpec
from tests.fake_models import PLAIN, FakeLoader


def served(spec: ModelSpec = PLAIN) -> ServedModel:
    loader = FakeLoader()
    loader.spec = spec
    manifest = Manifest("m", "3", "onnxruntime", "model.onnx", spec)
    loop = cast(asyncio.AbstractEventLoop, None)
    return loader.build(Artifact(Path("/nowhere"), manifest), loop)


def test_a_model_of_independent_rows_has_a_batch_size_and_dims_without_the_batch_axis() -> None:
    model = served()
    model.metrics.choices = Choices(8, 250_000, 1, inline=False)
    assert configuration(model, ready=2) == {
        "name": "m",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 2}},
        "max_batch_size": 8,
        "input": [
            {"name": "x", "data_type": "TYPE_FP32", "dims": [4], "format": "FORMAT_NONE", "optional": False},
        ],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [4]}],
        "instance_group": [{"name": "m", "kind": "KIND_CPU", "count": 1, "gpus": []}],
        "default_model_filename": "model.onnx",
        "parameters": {},
        "model_transaction_policy": {"decoupled": False},
        "dynamic_batching": {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": 250,
            "priority_levels": 8,
            "default_priority_level": 4,
        },
    }


@pytest.mark.parametrize("independent", [True, False])
def test_without_a_batch_axis_or_with_rows_that_depend_on_each_other_there_is_no_batch_size(independent: bool) -> None:
    shape = (2, 4) if independent else (-1, 4)
    spec = ModelSpec((TensorSpec("x", BY_NAME["FP32"], shape),), (TensorSpec("y", BY_NAME["FP32"], shape),))
    reason = "" if independent else "rows change with their neighbours"
    document = configuration(replace(served(spec), independent=independent, batching_reason=reason))
    assert document["max_batch_size"] == 0
    assert document["input"][0]["dims"] == list(shape)
    assert "dynamic_batching" not in document
    assert document["parameters"] == ({} if independent else {"batching_reason": {"string_value": reason}})


def test_every_datatype_has_its_configuration_name() -> None:
    dtypes = [*BY_NAME.values(), BF16]
    spec = ModelSpec(tuple(TensorSpec(f"i{at}", one, (-1, 2)) for at, one in enumerate(dtypes)), PLAIN.outputs)
    names = [row["data_type"] for row in configuration(served(spec))["input"]]
    assert names == ["TYPE_STRING" if one.name == "BYTES" else f"TYPE_{one.name}" for one in dtypes]


def test_a_model_on_gpus_says_so() -> None:
    model = served()
    model.metrics.device = dict
    assert configuration(model)["instance_group"][0]["kind"] == "KIND_GPU"
