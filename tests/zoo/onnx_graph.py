"""Builders of zoo graphs from the text of onnx.parser, and their right answers by a bare session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from .model import Answer, MakeInputs, Tensors, ZooModel

WEIGHTS_SEED = 7


def open_session(path: Path) -> Answer:
    """A bare session of ONNX Runtime: it answers each request alone."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]

    def answer(inputs: Tensors) -> dict[str, Any]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return answer


def open_session_of_one_row(path: Path) -> Answer:
    """A bare session of a model with a fixed batch of one: the rows of a request run one after the other."""
    alone = open_session(path)

    def answer(inputs: Tensors) -> dict[str, Any]:
        rows = len(next(iter(inputs.values())))
        answers = [alone({name: array[row : row + 1] for name, array in inputs.items()}) for row in range(rows)]
        return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}

    return answer


def graph(text: str, *, ir: int = 9, opset: int = 17, domains: str = "", **weights: NDArray[Any]) -> onnx.ModelProto:
    """A model from the text of its graph, with ``weights`` as initializers."""
    opsets = f'"" : {opset}' + (f", {domains}" if domains else "")
    made = onnx.parser.parse_model(f"<ir_version: {ir}, opset_import: [{opsets}]>\n{text}")
    for name, value in weights.items():
        made.graph.initializer.append(numpy_helper.from_array(value, name))
    return made


def saved(make: Callable[[], onnx.ModelProto]) -> Callable[[Path], Path]:
    """A builder that writes the model of ``make`` as ``model.onnx``."""

    def build(folder: Path) -> Path:
        path = folder / "model.onnx"
        onnx.save(make(), path)
        return path

    return build


def weight(*shape: int, seed: int = WEIGHTS_SEED, scale: float = 0.5) -> NDArray[np.float32]:
    """Seeded float32 weights."""
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def floats(**shapes: tuple[int, ...]) -> MakeInputs:
    """Standard normal float32 inputs [rows, *shape] by name."""

    def make(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        return {name: random.standard_normal((rows, *shape)).astype(np.float32) for name, shape in shapes.items()}

    return make


def of_dtype(dtype: Any, low: int, high: int, shape: tuple[int, ...], name: str = "x") -> MakeInputs:
    """Integers from ``low`` to ``high`` in ``dtype``, [rows, *shape]."""

    def make(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        return {name: random.integers(low, high, (rows, *shape)).astype(dtype)}

    return make


def sizes(**shapes: tuple[Any, ...]) -> MakeInputs:
    """Standard normal inputs whose axes are numbers, ``"rows"``, or letters: a letter is one drawn size from 1 to 8."""

    def make(random: np.random.Generator, rows: int) -> dict[str, NDArray[Any]]:
        drawn: dict[str, int] = {"rows": rows}
        made: dict[str, NDArray[Any]] = {}
        for name, shape in shapes.items():
            drawn_shape = []
            for axis in shape:
                if isinstance(axis, str) and axis not in drawn:
                    drawn[axis] = int(random.integers(1, 9))
                drawn_shape.append(drawn[axis] if isinstance(axis, str) else axis)
            made[name] = random.standard_normal(drawn_shape).astype(np.float32)
        return made

    return make


def row(name: str, make: Callable[[], onnx.ModelProto], inputs: MakeInputs, *, why: str, **fields: Any) -> ZooModel:
    """A zoo model from a graph, answered by a bare session; ``fields`` are further fields of the row."""
    return ZooModel(name, saved(make), inputs, open_session, why, **fields)
