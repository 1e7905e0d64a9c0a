"""The metrics: scores of a model's outputs, one per row where possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from server.tensors import Array

from ..errors import BadInput
from ..sources.torch_factory import resolve

Outputs = Mapping[str, Array]
"""Arrays by output name, one row per evaluation row."""

Scores = Callable[[Outputs, Outputs, Array | None], Array]
Combine = Callable[[Array], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """``scores``: (outputs, the reference's outputs, labels) to one float per row; the metric is their mean.

    One score per row, because the difference to the reference is taken row by row: that is what makes a drop of half
    a percent visible with a few hundred rows. Where the figure is no mean, ``scores`` gives what each row contributes,
    [rows, any], and ``combine`` makes the figure of any selection of rows (not a number where it is not defined). A
    user's function may give one number for all rows instead. ``classifies``: the largest value is the answer.
    """

    name: str
    scores: Scores
    combine: Combine | None = None
    higher_is_better: bool = True
    needs_labels: bool = True
    classifies: bool = False


def metric(name: str, labels: Array | None) -> Metric:
    """The metric of this name, or the function at ``module:function``. Raises BadInput when labels are missing."""
    found = METRICS.get(name)
    top = re.fullmatch(r"top([1-9]\d*)", name)
    if top:
        found = Metric(name, _top(int(top[1])), classifies=True)
    if found is None and ":" in name:
        found = _custom(name)
    if found is None:
        raise BadInput(f"--metric {name!r} is not known: {', '.join(METRICS)}, top5 (any number), or module:function")
    if found.needs_labels and labels is None:
        raise BadInput(f"--metric {name} needs an array 'labels' in the evaluation file; agreement and cosine do not")
    return found


def _custom(name: str) -> Metric:
    function = resolve(name)
    if not callable(function):
        raise BadInput(f"--metric {name!r} is not a function")

    def scores(got: Outputs, _: Outputs, labels: Array | None) -> Array:
        return np.asarray(function(dict(got), labels))

    return Metric(name, scores, higher_is_better=not getattr(function, "lower_is_better", False), needs_labels=False)


def _first(outputs: Outputs) -> Array:
    return next(iter(outputs.values()))


def _answers(outputs: Outputs) -> Array:
    """The class of each row: where the largest value is, or the value itself where the model names the class."""
    first = _first(outputs)
    return first if first.dtype.kind in "iub" else np.asarray(first.argmax(axis=-1))


def _accuracy(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    return np.asarray(_answers(got) == labels)


def _top(count: int) -> Scores:
    def scores(got: Outputs, _: Outputs, labels: Array | None) -> Array:
        first = _first(got)
        if first.ndim != 2 or first.shape[1] < count:
            raise ValueError(f"top{count} needs an output of [rows, at least {count} classes], not {list(first.shape)}")
        best = np.argpartition(first, -count, axis=1)[:, -count:]
        return np.asarray((best == np.asarray(labels).reshape(-1, 1)).any(axis=1))

    return scores


def _agreement(got: Outputs, reference: Outputs, _: Array | None) -> Array:
    same = np.asarray(_answers(got) == _answers(reference))
    return np.asarray(same.reshape(len(same), -1).mean(axis=1))


def _cosine(got: Outputs, reference: Outputs, _: Array | None) -> Array:
    left = _first(got).reshape(len(_first(got)), -1).astype(np.float64)
    right = _first(reference).reshape(len(left), -1).astype(np.float64)
    norms: Array = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(np.sum(left * right, axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))


def _pairs(got: Outputs, labels: Array | None) -> tuple[Array, Array]:
    """Predictions and labels as [rows, values]."""
    first = _first(got).astype(np.float64)
    wanted = np.asarray(labels, dtype=np.float64).reshape(first.shape)
    return first.reshape(len(first), -1), wanted.reshape(len(first), -1)


def _mse(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    ours, wanted = _pairs(got, labels)
    return np.asarray(np.square(ours - wanted).mean(axis=1))


def _mae(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    ours, wanted = _pairs(got, labels)
    return np.asarray(np.abs(ours - wanted).mean(axis=1))


def _r2_rows(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    return np.hstack(_pairs(got, labels))


def _r2(rows: Array) -> float:
    """1 - residual over total sum of squares, averaged over the values of a row."""
    ours, wanted = np.hsplit(rows, 2)
    total = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    if (total == 0).any():
        return float("nan")
    return float(np.mean(1 - np.square(ours - wanted).sum(axis=0) / total))


def _f1_rows(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    return np.column_stack([_answers(got), np.asarray(labels)])


def _f1(rows: Array) -> float:
    """Of class 1 where there are the classes 0 and 1 only, else the plain mean over the classes that occur."""
    ours, wanted = rows.astype(np.int64).T
    classes = int(max(ours.max(), wanted.max())) + 1
    hits = np.bincount(wanted[ours == wanted], minlength=classes)
    said, true = np.bincount(ours, minlength=classes), np.bincount(wanted, minlength=classes)
    occurring = said + true > 0
    each = 2 * hits[occurring] / (said + true)[occurring]
    if classes <= 2:
        return float(each[-1]) if classes == 2 else float("nan")
    return float(each.mean())


def _auroc_rows(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    first = _first(got).reshape(len(_first(got)), -1)
    scores = first[:, 1:] if first.shape[1] == 2 else first
    return np.column_stack([np.asarray(labels), scores])


def _auroc(rows: Array) -> float:
    """Area under the ROC curve by ranks; of class 1 for one score a row, else each class against the rest."""
    wanted, scores = rows[:, 0], rows[:, 1:]
    classes = [1] if scores.shape[1] == 1 else range(scores.shape[1])
    areas = [_area(wanted == label, scores[:, at]) for at, label in enumerate(classes)]
    return float(np.mean(areas))


def _area(positive: Array, scores: Array) -> float:
    """Mann-Whitney: the share of pairs (positive, negative) in the right order, ties counting half."""
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("accuracy", _accuracy, classifies=True),
        Metric("f1", _f1_rows, _f1, classifies=True),
        Metric("auroc", _auroc_rows, _auroc),
        Metric("mse", _mse, higher_is_better=False),
        Metric("mae", _mae, higher_is_better=False),
        Metric("r2", _r2_rows, _r2),
        Metric("agreement", _agreement, needs_labels=False, classifies=True),
        Metric("cosine", _cosine, needs_labels=False),
    )
}
"""All look at the first output: ``accuracy`` is the share of rows whose largest value is at the label, ``f1`` and
``auroc`` the usual ones, ``mse``, ``mae`` and ``r2`` compare values with the labels, ``agreement`` is the share of rows
with the reference's own answer, ``cosine`` the likeness to the reference's vectors."""
