"""Missing values: the float inputs for which a model gives finite answers to NaN, as trees do, found by asking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...backends.synthetic import Run
from ...errors import SlipwayError
from ...tensors import Array, ModelSpec, TensorSpec

PROBES = ((np.nan, True), (np.nan, False))
"""(value, whether it fills the whole row): a missing row, and a row with one missing value."""


def with_missing(run: Run, spec: ModelSpec, row: Sequence[Array], declared: ModelSpec) -> ModelSpec:
    """``spec`` with ``missing`` and ``infinite`` set for the inputs that take NaN and infinity.

    ``declared``: the manifest's, whose ``missing`` inputs are taken as they are. ``row``: one row that the model takes.
    """
    named = {one.name for one in declared.inputs if one.missing}
    inputs = tuple(_probed(run, one, index, row, one.name in named) for index, one in enumerate(spec.inputs))
    return replace(spec, inputs=inputs)


def with_declared_missing(spec: ModelSpec, declared: ModelSpec) -> ModelSpec:
    """As :func:`with_missing`, by the manifest alone."""
    named = {one.name for one in declared.inputs if one.missing}
    inputs = tuple(replace(one, missing=one.name in named, infinite=one.name in named) for one in spec.inputs)
    return replace(spec, inputs=inputs)


def _probed(run: Run, one: TensorSpec, index: int, row: Sequence[Array], declared: bool) -> TensorSpec:
    if one.dtype.numpy.kind != "f" or not row[index].size:
        return one
    missing = declared or all(_answers(run, row, index, value, whole) for value, whole in PROBES)
    additive = "mask" in one.name.lower() or "bias" in one.name.lower()
    infinite = missing or (additive and _answers(run, row, index, -np.inf, False))
    return replace(one, missing=missing, infinite=infinite)


def _answers(run: Run, row: Sequence[Array], index: int, value: float, whole: bool) -> bool:
    """Whether the model gives at least one float output, and finite ones only. Labels alone show nothing."""
    changed = np.array(row[index])
    changed.reshape(-1)[slice(None) if whole else slice(1)] = value
    try:
        outputs = run([*row[:index], changed, *row[index + 1 :]])
    except SlipwayError:
        return False
    floats = [array for array in outputs if array.dtype.kind == "f"]
    return bool(floats) and all(bool(np.isfinite(array).all()) for array in floats)
