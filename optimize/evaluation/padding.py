"""Padding: checks whether texts of different lengths may share a batch, and describes it for the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from server.artifact import VariableAxis
from server.tensors import Array

from ..errors import NotProven
from ..passes import running
from ..sources.axes import Probe
from ..sources.baseline import compare
from ..sources.conversion import Conversion
from . import evaluate
from .dataset import Dataset
from .evaluate import sqnr_db

MASK = "attention_mask"
TEXT = frozenset({"input_ids", MASK, "token_type_ids"})
"""Inputs that may be padded with zeros, because the mask excludes the padding."""

AXIS, FILL = 1, 0

NOTICEABLE_DB = 3.0
"""Extra noise that a variant in lower precision may have when padded: its ranges depend on the batch in any case."""

EXACT_DB = 80.0
"""Signal-to-noise ratio that differences in the order of float32 sums never go below."""


def promised(conversion: Conversion, reference: Path, chosen: Path) -> VariableAxis | None:
    """The axis along which requests may be padded; None when padding changes outputs or is not known to be safe.

    Only for models of token ids and a mask whose outputs have no token axis. Every row that was cut for the proof is
    padded to the full length again. Float32 must then give the source's outputs without padding, and the noise of
    ``chosen`` must not grow noticeably.
    """
    lengths = conversion.probes[0].lengths
    if not possible(conversion):
        return None
    ((name, full),) = lengths.items()
    for probe, answers in zip(conversion.probes, conversion.answers, strict=True):
        if probe.lengths[name] == full:
            continue
        expected = dict(zip(conversion.outputs, answers, strict=True))
        filled = {key: fill(array, full) for key, array in probe.inputs.items()}
        if not (_is_equal(reference, filled, expected, probe) and _is_as_good(chosen, filled, probe.inputs, expected)):
            return None
    return VariableAxis(dict.fromkeys(conversion.inputs, (AXIS, FILL)), {}, running.closed_lengths(full))


def possible(conversion: Conversion) -> bool:
    """Whether padding may be safe, as far as inputs and outputs show."""
    return _is_text(conversion) and _is_pooled(conversion)


def fill(array: Array, length: int) -> Array:
    """``array`` with zeros appended up to ``length`` on the token axis."""
    missing = length - array.shape[AXIS]
    return np.pad(array, [(0, missing if at == AXIS else 0) for at in range(array.ndim)], constant_values=FILL)


def _is_text(conversion: Conversion) -> bool:
    places = {axis.input: axis.position for axis in conversion.axes}
    names = {axis.name for axis in conversion.axes}
    return (
        MASK in conversion.inputs
        and len(conversion.axes) == len(conversion.inputs)
        and set(conversion.inputs) <= TEXT
        and places == dict.fromkeys(conversion.inputs, AXIS)
        and len(names) == 1
    )


def _is_pooled(conversion: Conversion) -> bool:
    """Whether the outputs have the same shape per row at every length."""
    shapes = {tuple(array.shape[1:] for array in answers) for answers in conversion.answers}
    return len(shapes) == 1


def _is_equal(reference: Path, filled: Mapping[str, Array], expected: Mapping[str, Array], probe: Probe) -> bool:
    got = _run(reference, filled)
    try:
        compare(list(expected), list(expected.values()), [got[name] for name in expected], probe)
    except NotProven:
        return False
    return True


def _is_as_good(
    chosen: Path, filled: Mapping[str, Array], plain: Mapping[str, Array], expected: Mapping[str, Array]
) -> bool:
    padded_db, plain_db = (sqnr_db(_run(chosen, inputs), expected) for inputs in (filled, plain))
    return padded_db >= min(plain_db - NOTICEABLE_DB, EXACT_DB)


def _run(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    rows = Dataset(inputs, None, "")
    return evaluate.outputs(path, rows, rows.rows, 1)
