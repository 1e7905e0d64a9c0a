"""The cheap gate: rejects broken candidates after a few rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from server.tensors import Array

from . import reading, segments
from .evaluate import sqnr_db
from .metrics import METRICS, Metric
from .reading import Outputs

ROWS = 32

LEAST_SQNR_DB = 0.0
"""Below this the error is larger than the signal, which is a broken conversion for every metric."""

LEAST_SEGMENT_DB = 10.0
"""Least signal-to-noise ratio of an output, or of a part of one, that the metric does not look at."""

LEAST_AGREEMENT = 0.5
"""A classifier that disagrees with float32 on more rows than this is broken; smaller losses are left to the metric."""


@dataclass(frozen=True, slots=True)
class Cover:
    """The outputs that the metric protects. ``output``: its name, None for all, empty for none. ``classes``: the output
    names classes by its largest value, so that noise in rare classes is left to the metric."""

    output: str | None
    classes: bool

    def protects(self, name: str) -> bool:
        return self.output is None or name == self.output


def cover(metric: Metric, expected: Outputs, labels: Array | None) -> Cover:
    """What ``metric`` protects, given float32's outputs on all rows. Raises BadInput when it does not fit them."""
    output = metric.covers(expected, labels)
    if metric.reads is None or not metric.classifies:
        return Cover(output, classes=False)
    found = metric.reads(expected, labels)
    if found.labels is None:
        works = found.kind == "named" or reading.are_probabilities(expected[found.output])
    else:
        works = reading.accuracy(found, expected) > reading.chance(found)
    return Cover(output, classes=works)


def head(expected: Outputs, got: Outputs) -> Mapping[str, Array]:
    """The rows of ``expected`` that ``got`` has."""
    return {name: array[: len(got[name])] for name, array in expected.items()}


def incomparable(got: Outputs, expected: Outputs) -> str | None:
    """Why ``got`` cannot be compared with ``expected``: other names, shapes, types, or values that are not finite."""
    if list(got) != list(expected):
        return f"broken: its outputs are {', '.join(got)} instead of {', '.join(expected)}"
    for name, cut in head(expected, got).items():
        if got[name].shape != cut.shape or got[name].dtype != cut.dtype:
            return f"broken: output {name!r} is {got[name].dtype}{list(got[name].shape)}"
        if cut.dtype.kind == "O":
            if (got[name] != cut).any():
                return f"broken: output {name!r} has other texts"
        elif not np.isfinite(got[name][np.isfinite(cut)]).all():
            return f"broken: output {name!r} is not finite"
    return None


def too_noisy(got: Outputs, expected: Outputs, covered: Cover) -> str | None:
    """Why comparable outputs are broken: more noise than signal in all, in one output or in a part of one with another
    range than the rest, or mostly other classes."""
    cut = head(expected, got)
    noise = sqnr_db(got, cut)
    if noise < LEAST_SQNR_DB:
        return f"broken: its error is larger than the signal ({noise:.1f} dB)"
    for name, array in cut.items():
        if array.dtype.kind == "f" and array.ndim and not (covered.classes and covered.output == name):
            reason = _noisy_segment(name, got[name], array, covered.protects(name))
            if reason:
                return reason
    if covered.classes:
        agreeing = METRICS["agreement"].scores(got, cut, None)
        if agreeing.mean() < LEAST_AGREEMENT:
            return f"broken: it agrees with float32 on {agreeing.mean():.0%} of {len(agreeing)} rows"
    return None


def _noisy_segment(name: str, got: Array, expected: Array, protected: bool) -> str | None:
    found = list(segments.split(name, expected))
    if protected and len(found) < 2:
        return None
    for label, where in found:
        ratio = segments.sqnr_db(got[where], expected[where])
        if ratio < LEAST_SEGMENT_DB:
            return f"broken: mostly noise in {label}: {ratio:.1f} dB, at least {LEAST_SEGMENT_DB:g} dB are needed"
    return None
