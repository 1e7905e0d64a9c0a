"""Figures that are not means over rows: F1, the area under the ROC curve, and explained variance."""

from __future__ import annotations

import numpy as np

from server.tensors import Array


def hits(predicted: Array, wanted: Array, classes: int, multilabel: bool) -> Array:
    """The contribution of each row to F1, float64 [rows, 3 * classes]: right, predicted and true, by class.

    ``predicted`` and ``wanted``: class indices [rows] or [rows, positions], -1 where a position is not evaluated; with
    ``multilabel``, [rows, classes] of 0 and 1.
    """
    rows = len(wanted)
    if multilabel:
        return np.hstack([predicted * wanted, predicted, wanted]).astype(np.float64)
    predicted, wanted = predicted.reshape(rows, -1), wanted.reshape(rows, -1)
    evaluated = wanted >= 0
    columns = [
        np.stack([(mask & evaluated & (values == label)).sum(axis=1) for label in range(classes)], axis=1)
        for mask, values in (
            (predicted == wanted, wanted),
            (np.ones_like(evaluated), predicted),
            (np.ones_like(evaluated), wanted),
        )
    ]
    return np.hstack(columns).astype(np.float64)


def f1(rows: Array) -> float:
    """F1 of class 1 for two classes, else the plain mean over the classes that occur; NaN where none does."""
    right, predicted, true = (part.sum(axis=0) for part in np.hsplit(rows, 3))
    occurring = predicted + true > 0
    if len(right) == 2:
        occurring &= np.array([False, True])
    if not occurring.any():
        return float("nan")
    return float((2 * right[occurring] / (predicted + true)[occurring]).mean())


def auroc(rows: Array) -> float:
    """The mean area under the ROC curve of [rows, 2 * classes]: which rows are of a class, then its scores."""
    positive, scores = np.hsplit(rows, 2)
    return float(np.mean([area(positive[:, at] > 0, scores[:, at]) for at in range(scores.shape[1])]))


def area(positive: Array, scores: Array) -> float:
    """Mann-Whitney: the share of pairs (positive, negative) in the right order, ties counting half."""
    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    _, place, ties = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(ties) - (ties - 1) / 2)[place]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def r2(rows: Array) -> float:
    """1 - residual over total sum of squares, averaged over the values; of [rows, predictions and labels]."""
    ours, wanted = np.hsplit(rows, 2)
    total = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    if (total == 0).any():
        return float("nan")
    return float(np.mean(1 - np.square(ours - wanted).sum(axis=0) / total))
