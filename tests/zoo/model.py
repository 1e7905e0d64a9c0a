"""A zoo model: a small model with an unusual signature, requests for it, and the right answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]

MakeInputs = Callable[[np.random.Generator, int], dict[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One model of the zoo.

    ``build(path)`` writes the model to ``path``, a file or a folder. ``inputs(random, rows)`` makes one request of
    ``rows`` rows; a model without a batch axis ignores ``rows``. ``expected(path, inputs)`` is the source framework's
    answer to one request alone. ``independent``: whether each output row depends only on the input row at its index;
    a model that is not independent must be run with one request a run, whole. ``row_counts``: sizes of legal requests.
    ``load_error``: the stable error code of a model that must be refused at load, empty where it must be served.
    """

    name: str
    build: Callable[[Path], None]
    inputs: MakeInputs
    expected: Callable[[Path, Tensors], dict[str, Any]]
    independent: bool = True
    row_counts: tuple[int, ...] = (1, 2, 5)
    rtol: float = 1e-4
    atol: float = 1e-5
    load_error: str = ""
    why: str = ""
    """The assumption that this model breaks."""
    tags: frozenset[str] = field(default_factory=frozenset)
