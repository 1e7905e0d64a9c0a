"""A request that the model should answer: the stored sample of the artifact, or zeros in the shapes of its inputs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .call import Address, NoResponse, call

MANIFEST, SAMPLES = "manifest.json", "samples.npz"
METADATA_S = 10.0
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Sample:
    """A request body. ``origin`` says where it comes from, for messages."""

    body: bytes
    content_type: str
    origin: str


def find(model: Path, address: Address) -> Sample | None:
    """A sample for the model in this folder, or None when the model has no sample and no metadata."""
    return stored(model) or _synthetic(model, address)


def stored(model: Path) -> Sample | None:
    """The first row of the stored samples, as Open Inference JSON."""
    if not (model / SAMPLES).is_file() or not (model / MANIFEST).is_file():
        return None
    import numpy as np

    declared = json.loads((model / MANIFEST).read_text("utf-8"))["inputs"]
    with np.load(model / SAMPLES, allow_pickle=False) as stored:
        rows = {one["name"]: stored[f"input:{one['name']}"] for one in declared if f"input:{one['name']}" in stored}
    if len(rows) != len(declared):
        return None
    # An input without a variable first axis has no single rows.
    single = all(one["shape"][:1] == [-1] for one in declared)
    inputs = []
    for one in declared:
        array = rows[one["name"]][:1] if single else rows[one["name"]]
        values = array.ravel().tolist()
        inputs.append(_tensor(one["name"], list(array.shape), one["datatype"], values))
    return Sample(json.dumps({"inputs": inputs}).encode(), JSON, "its own sample")


def _synthetic(model: Path, address: Address) -> Sample | None:
    """Zeros, if the server has Open Inference metadata under one of the usual model names."""
    names = ["model", model.name, *(path.stem for path in sorted(model.glob("*.onnx")))]
    for name in dict.fromkeys(names):
        try:
            response = call(address, "GET", f"/v2/models/{quote(name, safe='')}", within_s=METADATA_S)
            described = json.loads(response.body) if response.status == 200 else {}
        except (NoResponse, ValueError):
            return None
        if described.get("inputs"):
            return Sample(json.dumps({"inputs": [_zeros(one) for one in described["inputs"]]}).encode(), JSON, "zeros")
    return None


def _zeros(described: dict[str, Any]) -> dict[str, Any]:
    shape = [max(size, 1) for size in described["shape"]]
    count = 1
    for size in shape:
        count *= size
    zero: Any = {"BYTES": "", "BOOL": False}.get(described["datatype"], 0)
    return _tensor(described["name"], shape, described["datatype"], [zero] * count)


def _tensor(name: str, shape: list[int], dtype: str, values: list[Any]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": dtype, "data": values}
