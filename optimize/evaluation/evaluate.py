"""Evaluation: the outputs of a candidate on held-out rows, and its drop of the metric against the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.backends import Session
from server.tensors import Array, TensorSpec

from ..errors import BadInput
from ..passes import running
from . import bootstrap
from .bootstrap import Interval
from .dataset import Dataset
from .metrics import Metric
from .reading import Outputs


@dataclass(frozen=True, slots=True)
class Allowance:
    """The allowed drop: ``amount`` in the metric's unit, or, if ``relative``, as a share of the reference's score."""

    amount: float
    relative: bool
    text: str

    def limit(self, reference_score: float) -> float:
        """The largest drop that is allowed, in the metric's unit."""
        return self.amount * abs(reference_score) if self.relative else self.amount


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The score of a candidate over ``rows`` rows, and its drop against the reference (positive is worse).

    ``differing`` rows have another score than the reference's.
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


def outputs(
    path: Path, data: Dataset, batch_size: int, threads: int, limit: int | None = None, *, optimized: bool = False
) -> dict[str, Array]:
    """Run a model file over ``data`` (its first ``limit`` rows), through the backend that will serve it.

    Raises what the backend raises: BrokenArtifact when it does not load, ModelFailed when it does not run.
    """
    session = running.open_session(path, threads, optimized=optimized)
    try:
        rows = data.rows if limit is None else min(limit, data.rows)
        size = data.layout.run_rows or batch_size
        parts = []
        for start in range(0, rows, size):
            batch = data.batch(min(size, rows - start), start)
            answers = session.run([batch[spec.name] for spec in session.spec.inputs])
            parts.append([rows_first(a, s, size) for a, s in zip(answers, session.spec.outputs, strict=True)])
        names = [spec.name for spec in session.spec.outputs]
        return {name: np.concatenate([part[at] for part in parts])[:rows] for at, name in enumerate(names)}
    finally:
        session.close()


def run_in_parts(session: Session, batch: Sequence[Array], most_rows: int) -> list[Array]:
    """Run ``session`` on at most ``most_rows`` rows at a time (0: on all), which are on axis 0."""
    rows = len(batch[0])
    if not most_rows or rows <= most_rows:
        return session.run(batch)
    parts = [session.run([array[at : at + most_rows] for array in batch]) for at in range(0, rows, most_rows)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def rows_first(answer: Array, spec: TensorSpec, run_rows: int) -> Array:
    """Return an output of a run of ``run_rows`` rows with its rows on axis 0."""
    axis = row_axis(spec, run_rows)
    return answer[None] if axis is None else np.moveaxis(answer, axis, 0)


def as_answered(rows: Array, spec: TensorSpec, run_rows: int) -> Array:
    """Undo :func:`rows_first`: return the output of a run from its rows."""
    axis = row_axis(spec, run_rows)
    return rows[0] if axis is None else np.moveaxis(rows, 0, axis)


def row_axis(spec: TensorSpec, run_rows: int) -> int | None:
    """Return the axis of the rows: the first variable axis, else the first of size ``run_rows``; None if neither is."""
    for size in (-1, run_rows):
        if size in spec.shape:
            return spec.shape.index(size)
    return None


def compare(metric: Metric, candidate: Outputs, reference: Outputs, labels: Array | None, seed: int) -> Accuracy:
    """Score a candidate and its paired drop. Raises BadInput when the metric does not give one float per row."""
    got = _scores(metric, candidate, reference, labels)
    base = _scores(metric, reference, reference, labels)
    rows = len(next(iter(reference.values())))
    if got.ndim == 0:
        return _whole(metric, candidate, reference, labels, seed)
    differing = int(np.count_nonzero((got != base).reshape(rows, -1).any(axis=1)))
    if metric.combine is not None:
        combine = metric.combine
        score, drop = bootstrap.paired(
            lambda at: combine(got[at]), lambda at: combine(base[at]), rows, seed, bootstrap.RESAMPLES // 4
        )
        return Accuracy(score, drop if metric.higher_is_better else drop.negative(), rows, differing)
    lost = base - got if metric.higher_is_better else got - base
    return Accuracy(bootstrap.mean(got, seed), bootstrap.mean(lost, seed), rows, differing)


def _whole(metric: Metric, candidate: Outputs, reference: Outputs, labels: Array | None, seed: int) -> Accuracy:
    """The same for a metric that gives one number for all rows; it is computed again for every resample."""

    def over(outputs: Outputs, at: Array) -> float:
        part = {name: array[at] for name, array in outputs.items()}
        base = {name: array[at] for name, array in reference.items()}
        return float(_scores(metric, part, base, None if labels is None else labels[at]))

    rows = len(next(iter(reference.values())))
    score, drop = bootstrap.paired(
        lambda at: over(candidate, at), lambda at: over(reference, at), rows, seed, bootstrap.RESAMPLES // 10
    )
    differing = sum((candidate[name] != array).reshape(rows, -1).any(axis=1) for name, array in reference.items())
    drop = drop if metric.higher_is_better else drop.negative()
    return Accuracy(score, drop, rows, int(np.count_nonzero(differing)))


def sqnr_db(candidate: Outputs, reference: Outputs) -> float:
    """Signal to quantization noise over all outputs, in decibel: 0 means that the error is as large as the signal."""
    numbers = {name: array for name, array in reference.items() if array.dtype.kind != "O"}
    signal = sum(float(np.sum(np.square(array.astype(np.float64)))) for array in numbers.values())
    noise = sum(
        float(np.sum(np.square(candidate[name].astype(np.float64) - array.astype(np.float64))))
        for name, array in numbers.items()
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


def _scores(metric: Metric, got: Outputs, reference: Outputs, labels: Array | None) -> Array:
    """One number, or a number or several for each row. Raises BadInput for anything else."""
    try:
        scores = np.asarray(metric.scores(got, reference, labels), dtype=np.float64)
    except BadInput as error:
        raise BadInput(f"--metric {metric.name}: {error}") from error
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise BadInput(f"--metric {metric.name} fails on these outputs and labels: {error}") from error
    rows = len(next(iter(reference.values())))
    if scores.ndim > 0 and (scores.shape[0] != rows or (scores.ndim > 1 and metric.combine is None)):
        raise BadInput(
            f"--metric {metric.name} must give one score per row, [{rows}], or one for all, not {list(scores.shape)}"
        )
    if not np.isfinite(scores).all():
        raise BadInput(f"--metric {metric.name} gives a score that is not finite")
    return scores
