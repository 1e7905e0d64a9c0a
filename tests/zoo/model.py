"""A zoo model: a small model with an unusual signature, requests for it, and the right answers by its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]

MakeInputs = Callable[[np.random.Generator, int], dict[str, NDArray[Any]]]

Answer = Callable[[Tensors], dict[str, Any]]
"""Inputs of one request to its outputs, both by name."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A documented refusal: the HTTP status, and the ``code`` of the error body."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One model of the zoo.

    ``build(folder)`` writes the model into an empty folder and returns the path of the model file. ``inputs(random,
    rows)`` makes one request of ``rows`` rows; a model without a batch axis ignores ``rows``. ``source(path)`` opens
    the model in the framework that it comes from; the result answers one request alone.
    """

    name: str
    build: Callable[[Path], Path]
    inputs: MakeInputs
    source: Callable[[Path], Answer]
    why: str
    """The assumption that this model breaks."""
    independent: bool = True
    """Whether each output row depends only on the input row at its index. A model that is not independent must run one
    request at a time, whole."""
    decidable: bool = True
    """Whether trying can show that the rows are independent. Texts without a vocabulary, for example, show nothing."""
    row_counts: tuple[int, ...] = (1, 2, 5)
    """Sizes of ordinary requests, in rows."""
    large_rows: int = 150
    """Rows of a large request; larger than any batch. 0: the model has no large requests."""
    rtol: float = 1e-4
    atol: float = 1e-5
    slow_source: bool = False
    """Whether a call of the source takes milliseconds; its rows are independent, so many requests share one call."""
    judged_by_source: bool = False
    """Whether a bare session cannot answer the requests as they are: rows of a fixed batch, or a dtype of its own."""
    load_error: str = ""
    """The stable error code of a model that must be refused at load, empty where it must be served."""
    remedy: str = ""
    """A word that the refusal at load must name."""
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """Refusals by the name of the route, for formats that this model's tensors do not fit."""
