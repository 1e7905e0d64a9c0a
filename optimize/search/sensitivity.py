"""Sensitivity: the noise that each layer adds, from the tensors of a float graph and its low-precision variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from server.tensors import Array

from ..evaluation.dataset import Dataset
from ..passes.ranges import inner_values, made

if TYPE_CHECKING:
    import onnx

LAYERS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Attention", "Concat", "Resize", "Softmax"})
"""Operators that repair can keep in float."""

ROWS = 8
"""Rows of a run that holds every inner tensor of both graphs in memory."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One layer, named by its output tensor.

    ``sqnr_db``: signal-to-noise ratio of that tensor. ``added``: noise over signal that was not yet in the layer's
    inputs. ``gain_db``: gain of the model's outputs when only this layer stays in float; None if that was not tried.
    """

    tensor: str
    operator: str
    sqnr_db: float
    added: float
    gain_db: float | None = None

    def tried(self, gain_db: float) -> Sensitivity:
        return replace(self, gain_db=gain_db)

    def to_json(self) -> dict[str, Any]:
        return {
            "tensor": self.tensor,
            "operator": self.operator,
            "sqnr_db": round(self.sqnr_db, 2),
            "gain_db": None if self.gain_db is None else round(self.gain_db, 2),
        }


def rank(float_graph: Path, lower: Path, data: Dataset) -> tuple[Sensitivity, ...]:
    """The layers of ``float_graph``, the one that adds most noise in ``lower`` first.

    Both files run on the first rows of ``data`` with every inner tensor as an output. A layer is charged only for the
    noise that its inputs do not have.
    """
    import onnx

    exact, rough = onnx.load(float_graph), onnx.load(lower)
    shared = set(made(exact)) & set(made(rough))
    wanted = sorted(shared | {value.name for value in exact.graph.output})
    batch = data.batch(min(ROWS, data.rows))
    left, right = (next(inner_values(model, wanted, iter([batch]))) for model in (exact, rough))
    noise = {name: _noise(left[name], right[name]) for name in wanted if _comparable(left[name], right[name])}
    followers = _followers(exact)
    rows = []
    for node in exact.graph.node:
        seen = _first_shared(node.output[0], noise, followers)
        if node.op_type in LAYERS and seen is not None:
            before = max((noise.get(name, 0.0) for name in node.input), default=0.0)
            rows.append(
                Sensitivity(node.output[0], node.op_type, _decibel(noise[seen]), max(0.0, noise[seen] - before))
            )
    return tuple(sorted(rows, key=lambda row: (-row.added, row.tensor)))


def _comparable(left: Array, right: Array) -> bool:
    return left.shape == right.shape and left.dtype.kind == "f" and right.dtype.kind == "f"


def _noise(exact: Array, rough: Array) -> float:
    """Noise power over signal power; values that are not finite count as large noise."""
    signal = float(np.sum(np.square(exact.astype(np.float64))))
    difference = np.nan_to_num(exact.astype(np.float64) - rough.astype(np.float64), nan=1e6, posinf=1e6, neginf=-1e6)
    error = float(np.sum(np.square(difference)))
    return 0.0 if error == 0 else error / max(signal, np.finfo(np.float64).tiny)


def _decibel(noise: float) -> float:
    return 120.0 if noise <= 1e-12 else -10 * float(np.log10(noise))


def _followers(model: onnx.ModelProto) -> dict[str, str]:
    """The output of the only consumer of each tensor: batch normalisation and activations fold into the layer."""
    consumers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node.output[0])
    return {name: made[0] for name, made in consumers.items() if len(made) == 1}


def _first_shared(tensor: str, noise: Mapping[str, float], followers: Mapping[str, str]) -> str | None:
    at: str | None = tensor
    for _ in range(3):
        if at is None or at in noise:
            return at
        at = followers.get(at)
    return None
