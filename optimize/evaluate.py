"""Evaluation: the metric on held-out rows, and how much of it a candidate loses against the reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.backends import BackendOptions, loader
from server.tensors import Array

from . import bootstrap
from .bootstrap import Interval
from .dataset import Dataset
from .errors import BadInput
from .sources.torch_factory import resolve

Outputs = Mapping[str, Array]
"""Arrays by output name, one row per evaluation row."""

Scores = Callable[[Outputs, Outputs, Array | None], Array]


@dataclass(frozen=True, slots=True)
class Metric:
    """``scores``: (outputs, the reference's outputs, labels) to one float per row; the metric is their mean.

    One score per row, because the difference to the reference is taken row by row: that is what makes a drop of half
    a percent visible with a few hundred rows.
    """

    name: str
    scores: Scores
    higher_is_better: bool = True
    needs_labels: bool = True


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much of the metric may be lost: ``amount`` in the metric's unit, or, if ``relative``, as a share of the
    reference's score."""

    amount: float
    relative: bool
    text: str

    def limit(self, reference_score: float) -> float:
        """The largest drop that is allowed, in the metric's unit."""
        return self.amount * abs(reference_score) if self.relative else self.amount


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A candidate on the evaluation rows: its score, and the drop against the reference (positive is worse).

    ``rows`` were evaluated; on ``differing`` of them the score is another than the reference's.
    """

    score: Interval
    drop: Interval
    rows: int
    differing: int

    def to_json(self) -> dict[str, Any]:
        return {
            "score": self.score.to_json(),
            "drop": self.drop.to_json(),
            "rows": self.rows,
            "differing": self.differing,
        }


def outputs(path: Path, data: Dataset, batch_size: int, threads: int, limit: int | None = None) -> dict[str, Array]:
    """Run a model file over ``data`` (its first ``limit`` rows), through the backend that will serve it.

    Raises what the backend raises: BrokenArtifact when it does not load, ModelFailed when it does not run.
    """
    session = loader("onnxruntime")(path, BackendOptions(threads=threads))
    try:
        rows = data.rows if limit is None else min(limit, data.rows)
        parts = []
        for start in range(0, rows, batch_size):
            batch = data.batch(min(batch_size, rows - start), start)
            parts.append(session.run([batch[spec.name] for spec in session.spec.inputs]))
        names = [spec.name for spec in session.spec.outputs]
        return {name: np.concatenate([part[at] for part in parts]) for at, name in enumerate(names)}
    finally:
        session.close()


def compare(metric: Metric, candidate: Outputs, reference: Outputs, labels: Array | None, seed: int) -> Accuracy:
    """Score a candidate and its paired drop. Raises BadInput when the metric does not give one float per row."""
    got = _scores(metric, candidate, reference, labels)
    base = _scores(metric, reference, reference, labels)
    drop = base - got if metric.higher_is_better else got - base
    return Accuracy(bootstrap.mean(got, seed), bootstrap.mean(drop, seed), len(got), int(np.count_nonzero(drop)))


def sqnr_db(candidate: Outputs, reference: Outputs) -> float:
    """Signal to quantization noise over all outputs, in decibel: 0 means that the error is as large as the signal."""
    signal = sum(float(np.sum(np.square(array.astype(np.float64)))) for array in reference.values())
    noise = sum(
        float(np.sum(np.square(candidate[name].astype(np.float64) - array.astype(np.float64))))
        for name, array in reference.items()
    )
    if noise == 0:
        return float("inf")
    return float("-inf") if signal == 0 else 10 * float(np.log10(signal / noise))


def allowance(text: str) -> Allowance:
    """``1%``: one percent of the reference's score. ``0.01``: a hundredth in the metric's own unit. Raises BadInput."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%?)\s*", text)
    if match is None:
        raise BadInput(f"--max-drop {text!r}: write 1% (of the reference's score) or 0.01 (in the metric's own unit)")
    number, percent = float(match[1]), bool(match[2])
    return Allowance(number / 100 if percent else number, percent, text.strip())


def metric(name: str, labels: Array | None) -> Metric:
    """The metric of this name, or the function at ``module:function``. Raises BadInput when labels are missing."""
    found = METRICS.get(name)
    if found is None and ":" in name:
        found = _custom(name)
    if found is None:
        raise BadInput(f"--metric {name!r} is not known: {', '.join(METRICS)}, or module:function")
    if found.needs_labels and labels is None:
        raise BadInput(f"--metric {name} needs an array 'labels' in the evaluation file; agreement and cosine do not")
    return found


def _custom(name: str) -> Metric:
    function = resolve(name)
    if not callable(function):
        raise BadInput(f"--metric {name!r} is not a function")

    def scores(got: Outputs, _: Outputs, labels: Array | None) -> Array:
        return np.asarray(function(dict(got), labels))

    return Metric(name, scores, not getattr(function, "lower_is_better", False), needs_labels=False)


def _scores(metric: Metric, got: Outputs, reference: Outputs, labels: Array | None) -> Array:
    try:
        scores = np.asarray(metric.scores(got, reference, labels), dtype=np.float64)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise BadInput(f"--metric {metric.name} fails on these outputs and labels: {error}") from error
    rows = len(next(iter(reference.values())))
    if scores.shape != (rows,):
        raise BadInput(f"--metric {metric.name} must give one score per row, [{rows}], not {list(scores.shape)}")
    if not np.isfinite(scores).all():
        raise BadInput(f"--metric {metric.name} gives a score that is not finite")
    return scores


def _first(outputs: Outputs) -> Array:
    return next(iter(outputs.values()))


def _accuracy(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    return np.asarray(_first(got).argmax(axis=-1) == labels)


def _agreement(got: Outputs, reference: Outputs, _: Array | None) -> Array:
    same = np.asarray(_first(got).argmax(axis=-1) == _first(reference).argmax(axis=-1))
    return np.asarray(same.reshape(len(same), -1).mean(axis=1))


def _cosine(got: Outputs, reference: Outputs, _: Array | None) -> Array:
    left = _first(got).reshape(len(_first(got)), -1).astype(np.float64)
    right = _first(reference).reshape(len(left), -1).astype(np.float64)
    norms: Array = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(np.sum(left * right, axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))


def _errors(got: Outputs, labels: Array | None) -> Array:
    first = _first(got).astype(np.float64)
    return (first - np.asarray(labels, dtype=np.float64).reshape(first.shape)).reshape(len(first), -1)


def _mse(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    return np.asarray(np.square(_errors(got, labels)).mean(axis=1))


def _mae(got: Outputs, _: Outputs, labels: Array | None) -> Array:
    return np.asarray(np.abs(_errors(got, labels)).mean(axis=1))


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("accuracy", _accuracy),
        Metric("mse", _mse, higher_is_better=False),
        Metric("mae", _mae, higher_is_better=False),
        Metric("agreement", _agreement, needs_labels=False),
        Metric("cosine", _cosine, needs_labels=False),
    )
}
"""All look at the first output: ``accuracy`` is the share of rows whose largest value is at the label, ``mse`` and
``mae`` the errors against the labels, ``agreement`` the share of rows with the reference's own answer, ``cosine`` the
likeness to the reference's vectors."""
