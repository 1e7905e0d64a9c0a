"""Padding of texts, shown: whether a model without a manifest gives the same answer for padded tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...artifact import USUAL_LENGTHS, VariableAxis
from ...backends import Session
from ...backends.independence import ABSOLUTE, SINGLE
from ...errors import SlipwayError
from ...tensors import Array, ModelSpec

IDS, MASK = "input_ids", "attention_mask"
TOKENS = (IDS, MASK, "token_type_ids")
AXIS = 1
SHORTEST = 3
"""Tokens of the shortest text that is tried."""


def shown_padding(session: Session, sample: Sequence[Array], pad_id: int, longest: int) -> VariableAxis | None:
    """The variable axis of a model of tokens whose answers do not change with padding; None where they do.

    ``sample``: the tokens of texts of one length. Parts of them are run alone and padded to that length. ``pad_id``:
    the token that fills; ``longest``: tokens of the longest text. Also None for a model of other inputs than tokens.
    """
    spec = session.spec
    if not _takes_tokens(spec):
        return None
    axis = VariableAxis(
        {one.name: (AXIS, float(pad_id if one.name == IDS else 0)) for one in spec.inputs},
        {one.name: AXIS for one in spec.outputs if one.shape[:2] == (-1, -1)},
        (*(size for size in USUAL_LENGTHS if size < longest), longest),
    )
    length = sample[0].shape[AXIS]
    try:
        same = all(_same(session, sample, axis, short) for short in {SHORTEST, length // 2} if 0 < short < length)
    except SlipwayError:  # it does not take other lengths
        return None
    return axis if same and length > SHORTEST else None


def _takes_tokens(spec: ModelSpec) -> bool:
    names = {one.name for one in spec.inputs}
    whole = all(one.shape == (-1, -1) and one.dtype.numpy.kind == "i" for one in spec.inputs)
    return whole and {IDS, MASK} <= names <= set(TOKENS)


def _same(session: Session, sample: Sequence[Array], axis: VariableAxis, short: int) -> bool:
    """Whether the first ``short`` tokens have one answer alone and padded to the length of the sample."""
    alone = [array[:, :short] for array in sample]
    padded = []
    for array, one in zip(sample, session.spec.inputs, strict=True):
        filled = np.full_like(array, axis.inputs[one.name][1])
        filled[:, :short] = array[:, :short]
        padded.append(filled)
    pairs = zip(session.run(alone), session.run(padded), session.spec.outputs, strict=True)
    return all(_close(one, other[:, :short] if spec.name in axis.outputs else other) for one, other, spec in pairs)


def _close(one: Array, other: Array) -> bool:
    """As rows are compared: kernels of different lengths round differently."""
    if one.shape != other.shape or one.dtype.kind != "f":
        return np.array_equal(one, other)
    most = np.abs(one).max(initial=0.0)
    return bool(np.abs(one.astype(np.float64) - other).max(initial=0.0) <= SINGLE * most + ABSOLUTE)
