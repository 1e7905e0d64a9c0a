"""Quality: predictions against labels that came later, with intervals, and compared with the baseline's quality.

Figures of a classifier are functions of its confusion matrix, and are resampled with it; figures of a regression are
means of errors.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from .drift import ALPHA
from .errors import MonitorError

RESAMPLES = 2_000
MAX_CLASSES = 200
PROBLEMS = ("BinaryClassification", "MulticlassClassification", "Regression")
KEYS = {
    "BinaryClassification": "binary_classification",
    "MulticlassClassification": "multiclass_classification",
    "Regression": "regression",
}
SMALLER_IS_BETTER = ("mae", "mse", "rmse")


@dataclass(slots=True)
class Pairs:
    """Predictions and labels of the same rows. ``unmatched``: captured predictions without a label."""

    predictions: list[Any] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    unmatched: int = 0
    mismatched: int = 0
    """Events whose label has another number of rows."""

    def add(self, predicted: Sequence[Any], label: Sequence[Any]) -> None:
        """Add the rows of one event."""
        if len(predicted) != len(label):
            self.mismatched += 1
            return
        self.predictions += predicted
        self.labels += label


@dataclass(slots=True)
class Figure:
    """A figure of quality. ``error``: its standard deviation."""

    value: float
    error: float


@dataclass(slots=True)
class QualityFinding:
    """A figure against the baseline's: worse by ``worse`` (``low`` to ``high``), where above 0 is worse."""

    metric: str
    value: float
    error: float
    baseline: float
    worse: float
    low: float
    high: float
    violated: bool


def row_prediction(values: Sequence[Any]) -> Any:
    """The prediction of a row of the output: the value itself, or the index of the largest of several scores."""
    if len(values) == 1:
        return values[0]
    return int(np.argmax(np.asarray(values, np.float64)))


def problem_of(pairs: Pairs) -> str:
    """The kind of problem, by the labels: at most two, or few distinct whole numbers or texts, are classes."""
    distinct = {str(label) for label in pairs.labels[:100_000]}
    numbers = [_number(label) for label in pairs.labels[:100_000]]
    whole = all(
        number is None or number == int(number) for number in numbers if number is None or math.isfinite(number)
    )
    if len(distinct) <= 2:
        return "BinaryClassification"
    return "MulticlassClassification" if whole and len(distinct) <= MAX_CLASSES else "Regression"


def measure(pairs: Pairs, problem: str) -> dict[str, Figure]:
    """The figures of quality. Raises MonitorError without pairs, or for predictions that are no numbers."""
    if not pairs.labels:
        raise MonitorError("no captured prediction has a label; compare the eventId of both")
    if problem == "Regression":
        return _regression(pairs)
    return _classification(pairs, problem == "BinaryClassification")


def _regression(pairs: Pairs) -> dict[str, Figure]:
    predicted, labels = ([_number(one) for one in column] for column in (pairs.predictions, pairs.labels))
    if any(one is None for one in (*predicted, *labels)):
        raise MonitorError("predictions and labels of a regression must be numbers; choose another --problem")
    wrong = np.array(predicted, np.float64) - np.array(labels, np.float64)
    count = len(wrong)
    mae, mse = Figure(*_mean(np.abs(wrong))), Figure(*_mean(wrong**2))
    rmse = math.sqrt(mse.value)
    spread = float(np.var(np.array(labels, np.float64)))
    figures = {"mae": mae, "mse": mse, "rmse": Figure(rmse, mse.error / (2 * rmse) if rmse else 0.0)}
    if spread and count > 1:
        figures["r2"] = Figure(1 - mse.value / spread, mse.error / spread)
    return figures


def _mean(values: Any) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _classification(pairs: Pairs, binary: bool) -> dict[str, Figure]:
    predicted = [_class_of(one, binary) for one in pairs.predictions]
    labels = [_class_of(one, False) for one in pairs.labels]
    classes = sorted({*predicted, *labels})
    if len(classes) > MAX_CLASSES:
        raise MonitorError(f"there are {len(classes)} classes; name --problem Regression")
    index = {name: at for at, name in enumerate(classes)}
    counts = Counter((index[label], index[one]) for label, one in zip(labels, predicted, strict=True))
    matrix = np.zeros((len(classes), len(classes)))
    for (label, one), count in counts.items():
        matrix[label, one] = count
    random = np.random.default_rng(0)
    total = int(matrix.sum())
    drawn = random.multinomial(total, matrix.reshape(-1) / total, RESAMPLES).reshape(-1, *matrix.shape)
    found = _scores(matrix[None], binary)
    resampled = _scores(drawn.astype(np.float64), binary)
    least = 1.5 / total  # of figures at 0 or 1, which resampling takes for certain (Agresti and Coull)
    return {name: Figure(float(values[0]), max(float(resampled[name].std()), least)) for name, values in found.items()}


def _scores(matrices: Any, binary: bool) -> dict[str, Any]:
    """Scores of confusion matrices [count, label, prediction]."""
    totals = matrices.sum(axis=(1, 2))
    right = np.einsum("nii->ni", matrices)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.nan_to_num(right / matrices.sum(axis=2))
        precision = np.nan_to_num(right / matrices.sum(axis=1))
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))
    accuracy = right.sum(axis=1) / totals
    if binary and matrices.shape[1] == 2:
        return {"accuracy": accuracy, "precision": precision[:, 1], "recall": recall[:, 1], "f1": f1[:, 1]}
    weights = matrices.sum(axis=2) / totals[:, None]
    return {
        "accuracy": accuracy,
        "weighted_precision": (weights * precision).sum(axis=1),
        "weighted_recall": (weights * recall).sum(axis=1),
        "weighted_f1": (weights * f1).sum(axis=1),
    }


def _class_of(value: Any, probability: bool) -> str:
    """A class as text: ``3.0`` is ``3``. A single probability is class 1 from 0.5 on."""
    number = _number(value)
    if number is None or not math.isfinite(number):
        return str(value).strip()
    if probability and number != int(number):
        return str(int(number >= 0.5))
    return str(int(number)) if number == int(number) else str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, (bool, int, float)):
        return float(value)
    try:
        return float(str(value))
    except ValueError:
        return None


def compare(
    baseline: Mapping[str, Figure], current: Mapping[str, Figure], alpha: float = ALPHA
) -> list[QualityFinding]:
    """Each figure that both have: worse than the baseline beyond what chance explains, or not."""
    names = [name for name in current if name in baseline]
    findings = []
    for name in names:
        before, now = baseline[name], current[name]
        worse = now.value - before.value if name in SMALLER_IS_BETTER else before.value - now.value
        band = float(stats.norm.isf(alpha / max(len(names), 1))) * math.hypot(before.error, now.error)
        findings.append(
            QualityFinding(
                name, now.value, now.error, before.value, worse, worse - band, worse + band, worse - band > 0
            )
        )
    return findings


def to_json(figures: Mapping[str, Figure], problem: str, count: int) -> dict[str, Any]:
    """The statistics of model quality in Model Monitor's form."""
    rows = {name: {"value": one.value, "standard_deviation": one.error} for name, one in figures.items()}
    return {"version": 0.0, "dataset": {"item_count": count}, f"{KEYS[problem]}_metrics": rows}


def constraints_json(figures: Mapping[str, Figure], problem: str) -> dict[str, Any]:
    """The constraints of model quality: no worse than the baseline."""
    rows = {
        name: {
            "threshold": one.value,
            "comparison_operator": "GreaterThanThreshold" if name in SMALLER_IS_BETTER else "LessThanThreshold",
        }
        for name, one in figures.items()
    }
    return {"version": 0.0, f"{KEYS[problem]}_constraints": rows}


def from_json(document: Any) -> tuple[str, dict[str, Figure]]:
    """Problem and figures of statistics of model quality. Raises MonitorError."""
    for problem, key in KEYS.items():
        rows = document.get(f"{key}_metrics") if isinstance(document, dict) else None
        if isinstance(rows, dict):
            try:
                return problem, {
                    name: Figure(float(row["value"]), float(row.get("standard_deviation") or 0.0))
                    for name, row in rows.items()
                    if isinstance(row, dict) and isinstance(row.get("value"), (int, float))
                }
            except (TypeError, ValueError) as error:
                raise MonitorError(f"the statistics of quality are not in Model Monitor's form: {error}") from error
    raise MonitorError("the statistics of quality have no metrics of classification or regression")


def violations(findings: Iterable[QualityFinding]) -> list[dict[str, str]]:
    """The violations of quality in Model Monitor's form."""
    return [
        {
            "constraint_check_type": "GreaterThanThreshold" if one.metric in SMALLER_IS_BETTER else "LessThanThreshold",
            "metric_name": one.metric,
            "description": f"{one.metric} {one.value:.4f} against {one.baseline:.4f} in the baseline, worse by "
            f"{one.worse:.4f} ({one.low:.4f} to {one.high:.4f})",
        }
        for one in findings
        if one.violated
    ]
