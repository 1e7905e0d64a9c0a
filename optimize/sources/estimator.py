"""Source: an estimator with the scikit-learn interface: its outputs by name, and its conversion to ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput, ExportFailed, NotProven
from ..evaluation.dataset import Dataset
from ..sandbox.captured_output import captured
from . import Exported, SourceModel, SourceSpec
from .axes import Probe
from .estimator_graph import Interface
from .estimator_inputs import EstimatorInputs
from .torch_module import brief

PROBABILITIES, SCORES, LABEL, VALUE, DISTANCES, FEATURES = (
    *("probabilities", "scores", "label", "value", "distances", "features"),
)

ROWS = 64
"""Rows on which the variants of a conversion are compared with the estimator."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to convert an estimator: ``write`` returns the ONNX model for the input types of skl2onnx."""

    name: str
    write: Callable[[EstimatorInputs], Any]


Explain = Callable[[EstimatorInputs, Exception], str]
"""Takes the inputs and the error of a converter. Returns the reason in one line, with the failing step and a remedy."""


def described(
    request: SourceSpec,
    model: Any,
    data: Dataset,
    digests: Mapping[str, str],
    attempts: Sequence[Attempt],
    explain: Explain,
) -> SourceModel:
    """Describe an estimator that ``attempts`` can convert.

    Metrics read the first output: probabilities or scores of a classifier, the value of a regressor, the label of a
    clusterer or an outlier detector, the features of a transformer. If the classes are words, the label output is
    dropped: ``classes`` names the index of the largest probability. Raises BadInput.
    """
    if request.axes:
        raise BadInput("--dynamic: the model takes a fixed number of features")
    inputs = EstimatorInputs.of(model, data)
    classes = _classes(model)
    words = bool(classes) and not all(isinstance(value, int | np.integer) for value in classes)
    found = _answers(model, inputs, data.batch(2), words=words)
    outputs = tuple(found)
    if request.outputs:
        if len(request.outputs) != len(outputs):
            raise BadInput(f"{request.reference} has {len(outputs)} output(s), --outputs names {len(request.outputs)}")
        outputs = request.outputs
    taken = sorted(set(inputs.names) & set(outputs))
    if taken:
        raise BadInput(f"{taken[0]!r} would name an input and an output: choose names with --outputs")

    def run(batch: Mapping[str, Array]) -> list[Array]:
        return list(_answers(model, inputs, batch, words=words).values())

    def export(_: object, path: Path, _axes: object) -> Exported:
        rows = data.batch(min(ROWS, data.rows))
        return _export(attempts, explain, Interface(inputs, outputs, rows, run(rows)), path)

    names = tuple(str(value) for value in classes) if words else ()
    return SourceModel(request.reference, inputs.names, outputs, run, export, digests, (), names)


def _classes(model: Any) -> list[Any]:
    """Return the classes of a classifier with one output; empty for other estimators."""
    classes = getattr(model, "classes_", None)
    if classes is None or any(isinstance(value, list | np.ndarray) for value in classes):
        return []
    return list(classes)


def _answers(model: Any, inputs: EstimatorInputs, batch: Mapping[str, Array], *, words: bool) -> dict[str, Array]:
    """Return the outputs of the estimator by name: float32 and int64, with the rows on axis 0. Raises BadInput."""
    try:
        with captured():
            found = _outputs(model, inputs.assemble(batch), len(next(iter(batch.values()))))
    except BadInput:
        raise
    except Exception as error:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in batch.items())
        raise BadInput(f"the model fails on rows of the data ({shapes}): {brief(error)}") from error
    if words and len(found) > 1:
        found.pop(LABEL, None)
    return found


def _outputs(model: Any, rows: Any, count: int) -> dict[str, Array]:
    kind = _kind(model)
    if kind == "classifier":
        return _classified(model, rows)
    if kind == "outlier_detector":
        return {LABEL: _label(model.predict(rows)), SCORES: _float(model.decision_function(rows)).reshape(count, -1)}
    if kind == "clusterer":
        label = {LABEL: _label(model.predict(rows))}
        if hasattr(model, "predict_proba"):
            return label | {PROBABILITIES: _float(model.predict_proba(rows))}
        return label | ({DISTANCES: _float(model.transform(rows))} if hasattr(model, "transform") else {})
    if kind == "transformer":
        return {FEATURES: _float(model.transform(rows))}
    return {VALUE: _float(model.predict(rows)).reshape(count, -1)}


def _kind(model: Any) -> str:
    from sklearn.base import is_classifier, is_clusterer, is_outlier_detector, is_regressor

    for name, test in (
        ("classifier", is_classifier), ("regressor", is_regressor), ("outlier_detector", is_outlier_detector),
        ("clusterer", is_clusterer),
    ):  # fmt: skip
        if _is(test, model):
            return name
    if getattr(model, "classes_", None) is not None:
        return "classifier"
    if hasattr(model, "predict"):
        # Mixtures are density estimators, and their components are clusters.
        return "clusterer" if hasattr(model, "predict_proba") else "regressor"
    return "transformer"


def _is(test: Callable[[Any], bool], model: Any) -> bool:
    try:
        return bool(test(model))
    except (AttributeError, TypeError):
        return False


def _classified(model: Any, rows: Any) -> dict[str, Array]:
    label = np.asarray(model.predict(rows))
    found: dict[str, Array] = {}
    if hasattr(model, "predict_proba"):
        answer = model.predict_proba(rows)
        found = _several(answer) if isinstance(answer, list) else {PROBABILITIES: _float(answer)}
    elif hasattr(model, "decision_function"):
        scores = _float(model.decision_function(rows))
        # One score for two classes: as two columns, the larger one is at the class.
        scores = np.stack([-scores, scores], axis=1) if scores.ndim == 1 else scores
        if scores.shape[1:] == (len(_classes(model)),) or label.ndim > 1:
            found = {SCORES: scores}
    return found | ({} if label.dtype.kind in "OU" else {LABEL: _label(label)})


def _several(answers: Sequence[Any]) -> dict[str, Array]:
    """Return the probabilities of several outputs: one column each if all have two classes, else one array each."""
    arrays = [_float(answer) for answer in answers]
    if all(array.shape[1:] == (2,) for array in arrays):
        return {PROBABILITIES: np.stack([array[:, 1] for array in arrays], axis=1)}
    return {f"{PROBABILITIES}_{at}": array for at, array in enumerate(arrays)}


def _label(values: Any) -> Array:
    return np.asarray(values).astype(np.int64)


def _float(values: Any) -> Array:
    dense = values.toarray() if hasattr(values, "toarray") else values
    return np.asarray(dense, dtype=np.float32)


def _export(attempts: Sequence[Attempt], explain: Explain, interface: Interface, path: Path) -> Exported:
    """Write the first conversion that equals the estimator; else the closest one, which the proof then judges.

    Raises ExportFailed if no attempt gives a graph.
    """
    import onnx

    probe = Probe(interface.count, {}, interface.rows)
    failure: Exception | None = None
    closest: tuple[float, Any, tuple[str, ...]] | None = None
    for attempt in attempts:
        with captured() as messages:
            try:
                model = interface.attach(attempt.write(interface.inputs))
                difference = interface.difference(model, probe)
            except BadInput:
                raise
            except Exception as error:  # noqa: BLE001 - converters raise anything; the next attempt may work
                failure = failure or error
                continue
        note = () if attempt is attempts[0] else (f"converted {attempt.name}",)
        if closest is None or difference < closest[0]:
            closest = difference, model, (*note, *messages)
        if np.isfinite(difference):
            break
    if closest is None:
        cause = failure or NotProven("no conversion was tried")
        raise ExportFailed(explain(interface.inputs, cause)) from cause
    _, model, said = closest
    onnx.save(model, path)
    return Exported("onnxmltools" if "onnxmltools" in str(model.producer_name).lower() else "skl2onnx", said)
