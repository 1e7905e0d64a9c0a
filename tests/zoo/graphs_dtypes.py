"""Zoo graphs of every dtype: values pass unchanged, the extreme ones too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx

from .model import MakeInputs, ZooModel
from .onnx_graph import graph, of_dtype, row


def _dtypes() -> list[ZooModel]:
    """Identity-like graphs for every dtype: values must survive every route unchanged."""
    kinds: list[tuple[str, str, Any, int, int]] = [
        ("int8", "int8", np.int8, -100, 100),
        ("int16", "int16", np.int16, -30_000, 30_000),
        ("int32", "int32", np.int32, -(2**31), 2**31),
        ("int64", "int64", np.int64, -(2**62), 2**62),
        ("uint8", "uint8", np.uint8, 0, 256),
        ("uint16", "uint16", np.uint16, 0, 65_536),
        ("uint32", "uint32", np.uint32, 0, 2**32),
        ("uint64", "uint64", np.uint64, 0, 2**63),
        ("float64", "double", np.float64, -1000, 1000),
        ("float16", "float16", np.float16, -1000, 1000),
        ("bfloat16", "bfloat16", ml_dtypes.bfloat16, -100, 100),
        ("bool", "bool", np.bool_, 0, 2),
    ]
    made = []
    for name, text, dtype, low, high in kinds:

        def make(text: str = text) -> onnx.ModelProto:
            return graph(f"g ({text}[N, 3] x) => ({text}[N, 3] y) {{ y = Identity(x) }}")

        one = row(f"dtype-{name}", make, of_dtype(dtype, low, high, (3,)), why=f"values of {name} pass unchanged")
        # Python's session takes no bfloat16 arrays, and the graph is the identity.
        made.append(
            replace(one, source=lambda _: lambda inputs: {"y": inputs["x"]}, judged_by_source=True)
            if name == "bfloat16"
            else one
        )
    return made


def _extremes() -> list[ZooModel]:
    """Identities asked with the least, largest and smallest values of their dtype."""
    kinds: list[tuple[str, Any, list[Any]]] = [
        ("int64", np.int64, [-(2**63), 2**63 - 1, 2**53 + 1, -(2**53) - 1, 0]),
        ("uint64", np.uint64, [0, 2**64 - 1, 2**63, 2**53 + 1]),
        ("uint32", np.uint32, [0, 2**32 - 1, 2**31]),
        ("int8", np.int8, [-128, 127, 0]),
        ("double", np.float64, [1.7976931348623157e308, 5e-324, -0.0, 0.1, 1e-310, 2.0**53 + 2]),
        ("float", np.float32, [3.4028235e38, 1e-45, -0.0, 0.1, 16777216.0]),
        ("float16", np.float16, [65504, 6e-8, -0.0, 0.1]),
    ]

    def make(text: str) -> Callable[[], onnx.ModelProto]:
        return lambda: graph(f"g ({text}[N, 3] x) => ({text}[N, 3] y) {{ y = Identity(x) }}")

    def inputs(dtype: Any, values: list[Any]) -> MakeInputs:
        array = np.array(values, dtype)
        return lambda random, rows: {"x": array[random.integers(0, len(array), (rows, 3))]}

    return [
        row(f"extreme-{text}", make(text), inputs(dtype, values), why="extreme values pass unchanged", rtol=0, atol=0)
        for text, dtype, values in kinds
    ]


GRAPHS: tuple[ZooModel, ...] = (*_dtypes(), *_extremes())
