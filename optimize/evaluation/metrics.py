"""The metrics: scores of a model's outputs, one per row where possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from server.tensors import Array

from ..errors import BadInput
from ..sources.torch_factory import resolve
from . import detections, ranking, reading
from .reading import Outputs, Reading

Scores = Callable[[Outputs, Outputs, Array | None], Array]
Combine = Callable[[Array], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """``scores``: (outputs, float32's outputs, labels) to one float per row; the metric is their mean.

    The difference to float32 is taken row by row, so that a drop of half a percent is visible with a few hundred rows.
    Where the figure is not a mean, ``scores`` gives the contribution of each row, [rows, any], and ``combine`` computes
    the figure of any selection of rows (NaN where it is undefined). A user's function may give one number for all rows
    instead. ``classifies``: the outputs name classes. ``covers``: names the output that the metric looks at, for the
    gates of the others; None where it looks at all of them, and an empty name where it may look at none.
    """

    name: str
    scores: Scores
    combine: Combine | None = None
    higher_is_better: bool = True
    needs_labels: bool = True
    classifies: bool = False
    about: Callable[[Outputs, Array | None], str] = lambda *_: ""
    covers: Callable[[Outputs, Array | None], str | None] = lambda *_: None
    reads: Callable[[Outputs, Array | None], Reading] | None = None


def metric(name: str, labels: Array | None, classes: Sequence[str] = ()) -> Metric:
    """The metric of this name, or the function at ``module:function``. Raises BadInput when labels are missing.

    ``classes``: the class names in the order of the model's columns, if known.
    """
    table = METRICS if not classes else _table(classes)
    found = table.get(name)
    top = re.fullmatch(r"top([1-9]\d*)", name)
    if top:
        found = _ranked(Metric(name, _top(int(top[1]), classes), classifies=True), classes)
    if found is None and ":" in name:
        found = _custom(name)
    if found is None:
        raise BadInput(f"--metric {name!r} is not known: {', '.join(METRICS)}, top5 (any number), or module:function")
    if found.needs_labels and labels is None:
        free = ", ".join(row.name for row in METRICS.values() if not row.needs_labels)
        raise BadInput(f"--metric {name} needs an array 'labels' in the evaluation file; {free} do not")
    return found


def default(reference: Outputs, labels: Array | None, classes: Sequence[str] = ()) -> str:
    """The name of the metric that fits float32's outputs and the labels.

    Without labels: ``agreement`` for outputs that name classes, ``detections`` for boxes with scores, else ``cosine``.
    With labels: ``accuracy`` for classes, ``f1`` for several labels a row, ``mae`` for values. Raises BadInput when the
    labels fit no output.
    """
    if labels is None:
        if detections.heads(reference) is not None:
            return "detections"
        named = any(array.dtype.kind in "iub" and array.size == len(array) for array in reference.values())
        return "agreement" if named or any(map(reading.are_probabilities, reference.values())) else "cosine"
    try:
        kind = reading.read(reference, labels, classes).kind
    except BadInput:
        if labels.dtype.kind in "fiu" and any(array.size == labels.size for array in reference.values()):
            return "mae"
        raise
    return {"multilabel": "f1", "round": "mae"}.get(kind, "accuracy")


def _custom(name: str) -> Metric:
    function = resolve(name)
    if not callable(function):
        raise BadInput(f"--metric {name!r} is not a function")

    def scores(got: Outputs, _: Outputs, labels: Array | None) -> Array:
        return np.asarray(function(dict(got), labels))

    higher = not getattr(function, "lower_is_better", False)
    return Metric(name, scores, higher_is_better=higher, needs_labels=False, covers=lambda *_: "")


def _reading(found: Metric, classes: Sequence[str], find: Callable[..., Reading] = reading.read) -> Metric:
    """``found`` with its reading, which the user sees and the gates use."""

    def reads(reference: Outputs, labels: Array | None) -> Reading:
        return find(reference, labels if found.needs_labels else None, classes)

    return replace(
        found,
        reads=reads,
        about=lambda reference, labels: reads(reference, labels).about,
        covers=lambda reference, labels: reads(reference, labels).output,
    )


def _ranked(found: Metric, classes: Sequence[str]) -> Metric:
    return _reading(found, classes, reading.with_scores)


def _accuracy(classes: Sequence[str]) -> Scores:
    def scores(got: Outputs, reference: Outputs, labels: Array | None) -> Array:
        return np.nan_to_num(reading.correct(reading.read(reference, labels, classes), got), nan=1.0)

    return scores


def _top(count: int, classes: Sequence[str]) -> Scores:
    def scores(got: Outputs, reference: Outputs, labels: Array | None) -> Array:
        if labels is None:
            raise ValueError("there are no labels")
        found = reading.with_scores(reference, labels, classes)
        columns = found.scores(got)
        if columns.shape[1] < count:
            raise ValueError(f"top{count} needs {count} classes, output {found.output!r} has {columns.shape[1]}")
        best = np.argpartition(columns, -count, axis=1)[:, -count:]
        return np.asarray((best == np.asarray(found.labels).reshape(-1, 1)).any(axis=1))

    return scores


def _f1_rows(classes: Sequence[str]) -> Scores:
    def scores(got: Outputs, reference: Outputs, labels: Array | None) -> Array:
        found = reading.read(reference, labels, classes)
        return ranking.hits(found.predict(got), np.asarray(found.labels), found.classes, found.kind == "multilabel")

    return scores


def _auroc_rows(classes: Sequence[str]) -> Scores:
    def scores(got: Outputs, reference: Outputs, labels: Array | None) -> Array:
        if labels is None:
            raise ValueError("there are no labels")
        found = reading.with_scores(reference, labels, classes)
        columns = found.scores(got)
        wanted = np.asarray(found.labels).reshape(len(columns), -1)
        if found.kind == "multilabel":
            return np.hstack([wanted, columns])
        if columns.shape[1] == 1:
            return np.hstack([wanted == 1, columns])
        if columns.shape[1] == 2:
            return np.hstack([wanted == 1, columns[:, 1:]])
        return np.hstack([wanted == np.arange(columns.shape[1]), columns])

    return scores


def _agreement(got: Outputs, reference: Outputs, _: Array | None) -> Array:
    found = reading.read(reference, None)
    same = np.asarray(found.predict(got) == found.predict(reference))
    return np.asarray(same.reshape(len(same), -1).mean(axis=1))


def _cosine(got: Outputs, reference: Outputs, _: Array | None) -> Array:
    """The least cosine of any float output, per row."""
    found = []
    for name, array in reference.items():
        if array.dtype.kind != "f" or array.ndim == 0 or not len(array):
            continue
        left, right = (one.reshape(len(array), -1).astype(np.float64) for one in (got[name], array))
        left, right = np.nan_to_num(left), np.nan_to_num(right)
        norms: Array = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        both_zero = (np.linalg.norm(left, axis=1) == 0) & (np.linalg.norm(right, axis=1) == 0)
        likeness = np.sum(left * right, axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
        found.append(np.where(both_zero, 1.0, likeness))
    if not found:
        raise ValueError("no output holds floats to compare")
    return np.asarray(np.min(found, axis=0))


def _values(reference: Outputs, labels: Array | None) -> str:
    """The output whose values the labels are; raises BadInput when none has their number of values."""
    wanted = np.asarray(labels)
    if wanted.dtype.kind not in "fiub":
        raise BadInput(f"labels of dtype {wanted.dtype} are no values: use accuracy, f1 or auroc for classes")
    numbers = {name: array for name, array in reference.items() if array.dtype.kind in "fiu" and array.ndim}
    fitting = [name for name, array in numbers.items() if array.shape == wanted.shape] or [
        name
        for name, array in numbers.items()
        if array.size == wanted.size and [s for s in array.shape if s > 1] == [s for s in wanted.shape if s > 1]
    ]
    if not fitting:
        listed = ", ".join(f"{name} {list(array.shape)}" for name, array in reference.items())
        raise BadInput(
            f"labels {list(wanted.shape)} have the shape of no output: {listed}; give one value for each output value"
        )
    if len(fitting) == 1:
        return fitting[0]
    return min(
        fitting, key=lambda name: float(np.abs(numbers[name].astype(np.float64).ravel() - wanted.ravel()).mean())
    )


def _pairs(got: Outputs, reference: Outputs, labels: Array | None) -> tuple[Array, Array]:
    """Predictions and labels as [rows, values]."""
    first = got[_values(reference, labels)].astype(np.float64)
    wanted = np.asarray(labels, dtype=np.float64).reshape(first.shape)
    return first.reshape(len(first), -1), wanted.reshape(len(first), -1)


def _mse(got: Outputs, reference: Outputs, labels: Array | None) -> Array:
    ours, wanted = _pairs(got, reference, labels)
    return np.asarray(np.square(ours - wanted).mean(axis=1))


def _mae(got: Outputs, reference: Outputs, labels: Array | None) -> Array:
    ours, wanted = _pairs(got, reference, labels)
    return np.asarray(np.abs(ours - wanted).mean(axis=1))


def _r2_rows(got: Outputs, reference: Outputs, labels: Array | None) -> Array:
    return np.hstack(_pairs(got, reference, labels))


def _of_values(row: Metric) -> Metric:
    def about(reference: Outputs, labels: Array | None) -> str:
        return f"output {_values(reference, labels)!r} against the labels, value by value"

    return replace(row, about=about, covers=_values)


def _table(classes: Sequence[str]) -> dict[str, Metric]:
    rows = (
        _reading(Metric("accuracy", _accuracy(classes), classifies=True), classes),
        _reading(Metric("f1", _f1_rows(classes), ranking.f1, classifies=True), classes),
        _ranked(Metric("auroc", _auroc_rows(classes), ranking.auroc), classes),
        _of_values(Metric("mse", _mse, higher_is_better=False)),
        _of_values(Metric("mae", _mae, higher_is_better=False)),
        _of_values(Metric("r2", _r2_rows, ranking.r2)),
        _reading(Metric("agreement", _agreement, needs_labels=False, classifies=True), classes),
        Metric(
            "cosine", _cosine, needs_labels=False, about=lambda *_: "the least cosine of any float output to float32"
        ),
        Metric("detections", detections.agreement, needs_labels=False, about=detections.describe, covers=lambda *_: ""),
    )
    return {row.name: row for row in rows}


METRICS: dict[str, Metric] = _table(())
"""``accuracy``, ``f1`` and ``auroc`` compare classes with the labels; ``mse``, ``mae`` and ``r2`` compare values.

Without labels, ``agreement`` is the share of rows with float32's class, ``cosine`` the likeness to float32's vectors,
and ``detections`` the likeness of boxes.
"""
