"""The configuration document of a model: the fields of Triton's ModelConfig that say how it is really served.

Field names and values are those of the message ``ModelConfig`` as JSON, so that gRPC makes the message of it.
"""

from __future__ import annotations

from typing import Any

from ...models import ServedModel
from ...request import ORDINARY
from ...tensors import TensorSpec
from ..request_options import LOWEST_PRIORITY
from .metadata import platform_of

TYPES = {"BYTES": "TYPE_STRING"}
"""Datatypes whose configuration name is not ``TYPE_`` before their own."""


def configuration(model: ServedModel, ready: int = 1) -> dict[str, Any]:
    """The configuration of a model, of which ``ready`` versions answer.

    ``max_batch_size`` is 0, and the dims include the first axis, where requests are not put together by their rows.
    """
    manifest, declared = model.artifact.manifest, model.artifact.declaration
    rows = model.independent and model.spec.batchable
    kind = "KIND_CPU" if model.metrics.device is None else "KIND_GPU"
    document: dict[str, Any] = {
        "name": model.name,
        "platform": platform_of(model),
        "backend": manifest.backend,
        "version_policy": {"latest": {"num_versions": max(ready, 1)}},
        "max_batch_size": model.max_batch_size if rows else 0,
        "input": [{**_tensor(one, rows), "format": "FORMAT_NONE", "optional": False} for one in model.spec.inputs],
        "output": [_tensor(one, rows) for one in model.spec.outputs],
        "instance_group": [{"name": model.name, "kind": kind, "count": model.instances, "gpus": []}],
        "default_model_filename": manifest.model,
        "parameters": {key: {"string_value": value} for key, value in declared.parameters.items()},
        "model_transaction_policy": {"decoupled": False},
    }
    if rows:
        document["dynamic_batching"] = _batching(model)
    if model.cache is not None:
        document["response_cache"] = {"enable": True}
    if not model.independent:
        document["parameters"]["batching_reason"] = {"string_value": model.batching_reason}
    return document


def _tensor(spec: TensorSpec, rows: bool) -> dict[str, Any]:
    """One input or output; without its first axis where that is the batch axis."""
    datatype = spec.dtype.name
    return {
        "name": spec.name,
        "data_type": TYPES.get(datatype, f"TYPE_{datatype}"),
        "dims": list(spec.shape[1:] if rows else spec.shape),
    }


def _batching(model: ServedModel) -> dict[str, Any]:
    """Dynamic batching: the sizes that the model's own config prefers; rows wait only while an instance is idle."""
    choices = model.metrics.choices
    delay_us = 0 if choices is None else choices.max_queue_delay_ns // 1_000
    return {
        "preferred_batch_size": [*model.artifact.declaration.batch_sizes],
        "max_queue_delay_microseconds": delay_us,
        "priority_levels": LOWEST_PRIORITY,
        "default_priority_level": ORDINARY,
    }
