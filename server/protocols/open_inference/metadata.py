"""The metadata document of a model: its versions, platform, inputs and outputs."""

from __future__ import annotations

from typing import Any

from ...models import ServedModel

PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}
"""Triton's words for the backends that it has too."""


def platform_of(model: ServedModel) -> str:
    """The platform in Triton's words; a backend that Triton does not have keeps its own name."""
    backend = model.artifact.manifest.backend
    return PLATFORMS.get(backend, backend)


def describe(model: ServedModel, versions: list[str]) -> dict[str, Any]:
    """The metadata document of a model. ``versions`` lists its ready versions."""
    document: dict[str, Any] = {
        "name": model.name,
        "versions": versions,
        "platform": platform_of(model),
        "inputs": [_tensor(spec.to_json()) for spec in model.spec.inputs],
        "outputs": [_tensor(spec.to_json()) for spec in model.spec.outputs],
    }
    if not model.independent:
        document["parameters"] = {"independent_rows": False, "batching_reason": model.batching_reason}
    return document


def _tensor(row: dict[str, Any]) -> dict[str, Any]:
    """A tensor as the protocol has it: the manifest's ``missing`` is one of its parameters."""
    return {**row, "parameters": {"missing": True}} if row.pop("missing", False) else row
