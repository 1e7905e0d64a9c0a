"""The gate: scores of a candidate and of the version that answers, on the same held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import UpdateError
from .settings import Settings
from .trial import read_rows, served

RESAMPLES = 2_000
SMALLER_IS_BETTER = ("mae", "rmse")


def measure(settings: Settings, candidate: Path, against: tuple[str, Path] | None) -> dict[str, Any]:
    """The evidence of the gate. ``against``: version and artifact that the candidate must not be worse than; None:
    there is none.

    Raises StepFailed if a model cannot be served, and UpdateError for rows that do not fit.
    """
    rows, labels = read_rows(settings.held_out)
    if labels is None and settings.metric != "agreement":
        raise UpdateError(f"--metric {settings.metric} needs an array 'labels' in --held-out; or choose agreement")
    with served(candidate) as trial:
        ours, failed = trial.outputs(rows)
    theirs = None
    if against is not None:
        with served(against[1]) as trial:
            theirs, missing = trial.outputs(rows)
        failed = sorted({*failed, *missing})
    count = len(next(iter(rows.values())))
    evidence: dict[str, Any] = {
        "metric": settings.metric,
        "rows": count,
        "failed_rows": len(failed),
        "least_score": settings.least_score if np.isfinite(settings.least_score) else None,
        "max_drop": settings.max_drop,
        "against": against[0] if against is not None else None,
    }
    if failed:
        return {**evidence, "score": 0.0}
    right = None if settings.metric == "agreement" else labels
    if right is None and theirs is None:
        return {**evidence, "score": 1.0}
    expected = right if right is not None else predictions(theirs or {}, None)
    return {**evidence, **scored(settings.metric, ours, theirs, expected)}


def scored(metric: str, ours: dict[str, Any], theirs: dict[str, Any] | None, expected: Any) -> dict[str, Any]:
    """Score of the candidate, and its drop with a 95 % interval over resampled rows. Scores grow with quality."""
    own = _row_scores(metric, ours, expected)
    score = _combined(metric, own)
    if theirs is None:
        return {"score": score}
    other = np.ones_like(own) if metric == "agreement" else _row_scores(metric, theirs, expected)
    random = np.random.default_rng(0)
    drops = []
    for _ in range(RESAMPLES):
        drawn = random.integers(0, len(own), len(own))
        drops.append(_combined(metric, other[drawn]) - _combined(metric, own[drawn]))
    low, high = np.percentile(drops, [2.5, 97.5])
    before = _combined(metric, other)
    return {"score": score, "before": before, "drop": {"value": before - score, "low": float(low), "high": float(high)}}


def _row_scores(metric: str, outputs: dict[str, Any], expected: Any) -> Any:
    """One figure for each row: 1 or 0 of a class, or the negative error of a number."""
    got = predictions(outputs, expected)
    if metric in ("accuracy", "agreement"):
        same = got == expected
        return same.reshape(len(same), -1).all(axis=1).astype(np.float64)
    wrong = np.abs(got.astype(np.float64) - np.asarray(expected, np.float64).reshape(got.shape))
    wrong = wrong.reshape(len(wrong), -1)
    return -(wrong.mean(axis=1) if metric == "mae" else (wrong**2).mean(axis=1))


def _combined(metric: str, scores: Any) -> float:
    mean = float(scores.mean())
    return -float(np.sqrt(-mean)) if metric == "rmse" else mean


def predictions(outputs: dict[str, Any], labels: Any) -> Any:
    """The predictions of the rows: an output with as many values as the labels, else the class of the largest score.

    A single probability is class 1 from 0.5 on, where labels are whole numbers. Raises UpdateError if no output fits.
    """
    classes = labels is None or np.asarray(labels).dtype.kind in "iub"
    for array in outputs.values():
        fits = labels is not None and array.size == np.asarray(labels).size
        if fits and not (classes and array.dtype.kind == "f"):
            return array.reshape(np.asarray(labels).shape)
    for array in outputs.values():
        if array.dtype.kind != "f":
            continue
        if array.ndim == 2 and array.shape[1] > 1:
            return array.argmax(axis=1)
        if array.size == len(array):
            flat = array.reshape(-1)
            whole = bool((flat == np.round(flat)).all())
            return flat.astype(np.int64) if whole else (flat >= 0.5).astype(np.int64)
    raise UpdateError("no output of the model is a prediction of the labels")
