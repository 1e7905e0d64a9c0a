"""The check of float32 against the source on the evaluation rows: the proof on all rows, both scores, and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.tensors import Array

from . import reading, row_proof
from .dataset import Split
from .evaluate import Accuracy, Allowance, compare
from .metrics import Metric
from .reading import Outputs
from .row_proof import OutputProof


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """``rows`` of ``of`` evaluation rows were run by the source.

    ``score``: the source's own, with its drop against float32; None when the source was not run. ``warnings`` are for
    the user.
    """

    rows: int
    of: int
    proof: tuple[OutputProof, ...] = ()
    score: Accuracy | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "of": self.of,
            "outputs": [one.to_json() for one in self.proof],
            "score": self.score.to_json() if self.score else None,
        }


def source_rows(names: Sequence[str], evaluation: Sequence[Array], split: Split) -> tuple[dict[str, Array], Array]:
    """The source's outputs for the evaluation rows of ``split``, and the places of these rows among them.

    ``evaluation``: the outputs for the first rows of the file. A slow source has not answered all of them.
    """
    indices = np.arange(split.evaluation.rows) if split.indices is None else split.indices
    if not evaluation:
        return {}, np.arange(0)
    places = np.flatnonzero(indices < len(evaluation[0]))
    return {name: array[indices[places]] for name, array in zip(names, evaluation, strict=True)}, places


def check(
    source: Mapping[str, Array],
    places: Array,
    expected: Outputs,
    labels: Array | None,
    metric: Metric,
    allowed: Allowance,
    seed: int,
) -> SourceCheck:
    """Prove float32 (``expected``) equal to the source on the rows at ``places``, and compare their scores.

    Raises NotProven when too many rows differ, and BadInput when the metric does not fit the outputs.
    """
    rows = len(next(iter(expected.values())))
    warnings = _at_chance(metric, expected, labels)
    if not source:
        return SourceCheck(0, rows, warnings=warnings)
    part = {name: array[places] for name, array in expected.items()}
    proof = row_proof.prove(source, part)
    for one in proof:
        if one.unequal:
            warnings = (*warnings, f"float32 cannot equal the source in {one.unequal} of {one.rows} rows: {one}")
    if set(source) != set(part):
        return SourceCheck(len(places), rows, proof, None, warnings)
    kept = None if labels is None else labels[places]
    score = compare(metric, source, part, kept, seed)
    lead = abs(score.drop.value)
    if lead > allowed.limit(score.score.value):
        float32 = score.score.value + (score.drop.value if metric.higher_is_better else -score.drop.value)
        warning = (
            f"the source's own {metric.name} is {score.score.value:.4g} and float32's is {float32:.4g}: they differ by "
            f"more than the allowed drop of {allowed.text}"
        )
        warnings = (*warnings, warning)
    return SourceCheck(len(places), rows, proof, score, warnings)


def _at_chance(metric: Metric, expected: Outputs, labels: Array | None) -> tuple[str, ...]:
    """A warning where float32 classifies no better than always answering the most frequent class."""
    if labels is None or metric.reads is None or not metric.needs_labels:
        return ()
    found = metric.reads(expected, labels)
    if found.labels is None or found.kind == "round":
        return ()
    right, chance = reading.accuracy(found, expected), reading.chance(found)
    if right > chance:
        return ()
    warning = (
        f"float32 is right on {right:.1%} of the labels, and always answering the most frequent class on {chance:.1%}: "
        f"check that labels, class order and preprocessing belong to this model ({found.about})"
    )
    return (warning,)
