"""A request that the model should answer: its own stored sample, or zeros in the shape that the server describes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .call import Address, NoAnswer, call

MANIFEST, SAMPLES = "manifest.json", "samples.npz"
ASK_S = 10.0
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Sample:
    """``origin`` says in a few words where it comes from."""

    body: bytes
    content_type: str
    origin: str


def find(model: Path, address: Address) -> Sample | None:
    """A sample for the model in this folder, or None when there is no telling what it takes."""
    return _stored(model) or _made_up(model, address)


def _stored(model: Path) -> Sample | None:
    """The first row of what the artifact brings, as Open Inference JSON."""
    if not (model / SAMPLES).is_file() or not (model / MANIFEST).is_file():
        return None
    import numpy as np

    declared = json.loads((model / MANIFEST).read_text("utf-8"))["inputs"]
    with np.load(model / SAMPLES, allow_pickle=False) as stored:
        rows = {one["name"]: stored[f"input:{one['name']}"] for one in declared if f"input:{one['name']}" in stored}
    if len(rows) != len(declared):
        return None
    # Where one input has no variable first axis, rows cannot be taken one by one.
    single = all(one["shape"][:1] == [-1] for one in declared)
    inputs = []
    for one in declared:
        array = rows[one["name"]][:1] if single else rows[one["name"]]
        values = array.ravel().tolist()
        inputs.append(_tensor(one["name"], list(array.shape), one["datatype"], values))
    return Sample(json.dumps({"inputs": inputs}).encode(), JSON, "its own sample")


def _made_up(model: Path, address: Address) -> Sample | None:
    """Zeros, where the server describes its model in the Open Inference Protocol under one of the usual names."""
    names = ["model", model.name, *(path.stem for path in sorted(model.glob("*.onnx")))]
    for name in dict.fromkeys(names):
        try:
            answer = call(address, "GET", f"/v2/models/{quote(name, safe='')}", within_s=ASK_S)
            described = json.loads(answer.body) if answer.status == 200 else {}
        except (NoAnswer, ValueError):
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
