"""The reading of a model's outputs: which output answers the labels, how, and the classes that it names.

Longer than 300 lines: the conventions of class outputs are one decision, and each takes a few lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from server.tensors import Array

from ..errors import BadInput
from . import class_labels

Outputs = Mapping[str, Array]
"""Arrays by output name, one row per evaluation row."""

Kind = Literal["argmax", "threshold", "multilabel", "named", "ordinal", "round", "one_vs_one"]

IGNORED = (-100, 255)
"""Labels that mark a position as not evaluated, by convention of text and image data sets."""

MONOTONE = 0.99
"""Share of rows whose columns must not increase, for an ordinal output of cumulative probabilities."""

PROBABILITY_ERROR = 1e-3


@dataclass(frozen=True, slots=True)
class Reading:
    """How one output names classes.

    ``labels``: integer class indices, [rows] or [rows, positions], or None without labels; -1 marks positions that are
    not evaluated. ``axis``: of the classes. ``classes``: their number. ``threshold``: a column above it is positive.
    ``values``: the class values of a ``named`` output, in the order of the indices. ``about`` is one line for the user.
    """

    output: str
    kind: Kind
    about: str
    labels: Array | None = None
    axis: int = -1
    classes: int = 2
    threshold: float = 0.0
    values: Array | None = None

    def predict(self, outputs: Outputs) -> Array:
        """The class indices that ``outputs`` name, integers in the shape of the labels."""
        array = outputs[self.output]
        if self.kind == "argmax":
            return np.asarray(array.argmax(axis=self.axis)).reshape(len(array), *self._positions(array))
        if self.kind in ("threshold", "multilabel"):
            found = (array > self.threshold).astype(np.int64)
            one = self.kind == "threshold" and found.size == len(array)
            return found.reshape(len(array)) if one else found
        if self.kind == "ordinal":
            return np.asarray((array > self.threshold).sum(axis=1))
        if self.kind == "round":
            return np.clip(np.rint(array.reshape(len(array)).astype(np.float64)), -1e9, 1e9).astype(np.int64)
        if self.kind == "one_vs_one":
            return _votes(array, self.classes)
        return class_labels.places(array.reshape(len(array), -1).squeeze(-1), self.values)

    def scores(self, outputs: Outputs) -> Array:
        """The scores by class, [rows, classes], or [rows, 1] for one column; for ranking. Raises ValueError if none."""
        array = outputs[self.output]
        if self.kind == "argmax" and array.ndim == 2:
            return array
        if self.kind in ("threshold", "multilabel") and array.size == len(array) * (array.shape[1:] or (1,))[0]:
            return array.reshape(len(array), -1)
        raise ValueError(f"output {self.output!r} of {list(array.shape)} holds no score for each class of a row")

    def _positions(self, array: Array) -> tuple[int, ...]:
        axis = self.axis % array.ndim
        return tuple(size for at, size in enumerate(array.shape) if at not in (0, axis))


def read(reference: Outputs, labels: Array | None, names: Sequence[str] = ()) -> Reading:
    """Find out how the float32 outputs ``reference`` name classes, and convert ``labels`` to class indices.

    ``names``: the names or values of the classes in the order of the model's columns, if known. Among several outputs
    that fit, the one with the highest accuracy is taken. Raises BadInput when none fits, with the shapes.
    """
    if labels is None:
        return _unlabelled(reference)
    found = [one for name, array in reference.items() for one in _fit(name, array, labels, names)]
    if not found:
        raise BadInput(_refusal(reference, labels, names))
    # The first of equally good readings is the usual one.
    best = max(found, key=lambda one: accuracy(one, reference))
    outputs = {one.output for one in found}
    if len(outputs) > 1:
        return replace(best, about=f"{best.about} (of {len(outputs)} outputs that fit, the one that fits best)")
    return best


def with_scores(reference: Outputs, labels: Array, names: Sequence[str] = ()) -> Reading:
    """The reading of :func:`read`, limited to outputs with a score for each class, as rankings need them.

    Where another output names the class, the classes of the columns are taken from it. Raises BadInput.
    """
    numbers = {name: array for name, array in reference.items() if array.dtype.kind == "f"}
    named = [name for name, array in reference.items() if array.dtype.kind in "OUSiub" and array.size == len(array)]
    if named and not names:
        for array in numbers.values():
            names = _column_names(array, reference[named[0]]) or names
    return read(numbers or reference, labels, names)


def _column_names(scores: Array, said: Array) -> tuple[str, ...]:
    """The class of each column: the one that the other output names wherever this column is the largest; else none."""
    if scores.ndim != 2:
        return ()
    largest, names = scores.argmax(axis=1), said.reshape(len(said))
    found = []
    for column in range(scores.shape[1]):
        values = {class_labels.text(value) for value in names[largest == column]}
        if len(values) != 1:
            return ()
        found.append(values.pop())
    return tuple(found)


def accuracy(reading: Reading, outputs: Outputs) -> float:
    """The share of right answers over all evaluated positions."""
    return float(np.nanmean(correct(reading, outputs)))


def correct(reading: Reading, outputs: Outputs) -> Array:
    """The share of right answers in each row, float64 [rows]; NaN where a row has no evaluated position."""
    if reading.labels is None:
        raise ValueError("there are no labels")
    right = (reading.predict(outputs) == reading.labels).astype(np.float64)
    evaluated = (reading.labels >= 0) | (reading.kind == "round")
    rows = len(right)
    with np.errstate(invalid="ignore"):
        return np.asarray((right * evaluated).reshape(rows, -1).sum(axis=1) / evaluated.reshape(rows, -1).sum(axis=1))


def chance(reading: Reading) -> float:
    """The accuracy of always answering the most frequent class."""
    if reading.labels is None:
        raise ValueError("there are no labels")
    if reading.kind == "multilabel":
        share = reading.labels.mean(axis=0)
        return float(np.maximum(share, 1 - share).mean())
    known = reading.labels[reading.labels >= 0]
    return float(np.unique(known, return_counts=True)[1].max() / known.size) if known.size else 0.0


def _fit(name: str, array: Array, labels: Array, names: Sequence[str]) -> list[Reading]:
    """The possible readings of one output, the usual one first; none if its shape does not fit the labels."""
    if array.ndim == 0 or len(array) != len(labels):
        return []
    if array.dtype.kind in "OUSiub":
        return _named(name, array, labels)
    if array.dtype.kind != "f":
        return []
    flat = labels.reshape(len(labels)) if labels.size == len(labels) else labels
    if flat.ndim == 1:
        return _per_row(name, array, flat, names)
    if array.shape == flat.shape and set(np.unique(flat)) <= {0, 1}:
        if array.ndim == 2 and array.shape[1] > 1 and (flat.sum(axis=1) == 1).all():
            return _per_row(name, array, flat.argmax(axis=1), ())
        threshold = _threshold(array)
        about = f"output {name!r} {_shape(array)}: each column above {threshold:g} is a label of its own"
        return [Reading(name, "multilabel", about, flat.astype(np.int64), 1, array.shape[1], threshold)]
    return _per_position(name, array, flat, names)


def _per_row(name: str, array: Array, labels: Array, names: Sequence[str]) -> list[Reading]:
    """One label per row: columns of classes, one column, ordinal columns, or columns of pairs of classes."""
    columns = 1 if array.ndim == 1 else array.shape[1]
    if array.ndim > 2 and array.size != len(array) * columns:
        return []
    found = []
    array = array.reshape(len(array), columns)
    if columns == 1:
        return _one_column(name, array, labels, names)
    given = class_labels.to_indices(labels, columns, names)
    if given is not None:
        indices, how = given
        about = f"output {name!r} {_shape(array)}: the largest of {columns} columns, labels {how}"
        found.append(Reading(name, "argmax", about, indices, 1, columns))
    whole = class_labels.whole_numbers(labels)
    if whole is None or not whole.size:
        return found
    low, high = int(whole.min()), int(whole.max())
    falling = (np.diff(array, axis=1) <= 0).all(axis=1).mean() >= MONOTONE
    if low >= 0 and high == columns and falling:
        threshold = _threshold(array)
        about = f"output {name!r} {_shape(array)}: ordinal, the number of columns above {threshold:g}"
        found.append(Reading(name, "ordinal", about, whole, 1, columns + 1, threshold))
    classes = round((1 + (1 + 8 * columns) ** 0.5) / 2)
    if classes * (classes - 1) // 2 == columns:
        given = class_labels.to_indices(labels, classes, names)
        if given is not None:
            about = f"output {name!r} {_shape(array)}: votes of {classes} classes, one column for each pair"
            found.append(Reading(name, "one_vs_one", about, given[0], 1, classes))
    return found


def _one_column(name: str, array: Array, labels: Array, names: Sequence[str]) -> list[Reading]:
    threshold = _threshold(array)
    given = class_labels.to_indices(labels, 2, names)
    what = "probability" if threshold else "logit"
    if given is not None:
        indices, how = given
        about = f"output {name!r} {_shape(array)}: one {what}, class 1 above {threshold:g}, labels {how}"
        return [Reading(name, "threshold", about, indices, 1, 2, threshold)]
    whole = class_labels.whole_numbers(labels)
    if whole is None or not whole.size:
        return []
    about = f"output {name!r} {_shape(array)}: a value, rounded to the nearest of the labels' whole numbers"
    return [Reading(name, "round", about, whole, 1, int(whole.max() - whole.min()) + 1)]


def _per_position(name: str, array: Array, labels: Array, names: Sequence[str]) -> list[Reading]:
    """One label per position: pixels of [rows, classes, ...] or [rows, ..., classes], or tokens."""
    for axis in (1, -1):
        if array.ndim == labels.ndim + 1:
            classes = array.shape[axis]
            rest = [size for at, size in enumerate(array.shape) if at != axis % array.ndim]
        elif (
            array.ndim == labels.ndim and array.shape[axis] == labels.shape[axis] == 1
        ) or array.shape == labels.shape:
            classes, rest = 1, list(labels.shape)
        else:
            continue
        if rest != list(labels.shape):
            continue
        ignored = np.isin(labels, [value for value in IGNORED if value < 0 or value >= max(2, classes)])
        given = class_labels.to_indices(labels[~ignored], max(2, classes), names) if not ignored.all() else None
        if given is None:
            continue
        indices = np.full(labels.shape, -1, np.int64)
        indices[~ignored] = given[0]
        if classes == 1:
            threshold = _threshold(array)
            about = f"output {name!r} {_shape(array)}: every position, class 1 above {threshold:g}, labels {given[1]}"
            return [Reading(name, "threshold", about, indices.reshape(array.shape), axis, 2, threshold)]
        about = f"output {name!r} {_shape(array)}: the largest of {classes} at every position, labels {given[1]}"
        return [Reading(name, "argmax", about, indices, axis, classes)]
    return []


def _named(name: str, array: Array, labels: Array) -> list[Reading]:
    """An output that names the class itself, as a word or as a number."""
    if array.size != len(array) or labels.size != len(labels):
        return []
    given, flat = array.reshape(len(array)), labels.reshape(len(labels))
    if given.dtype.kind in "OUS":
        said, wanted = given.astype(str), flat.astype(str)
    else:
        whole = class_labels.whole_numbers(flat)
        if whole is None:
            return []
        said, wanted = given.astype(np.int64), whole
    values = np.unique(np.concatenate([said, wanted]))
    if not set(np.unique(said)) & set(np.unique(wanted)):
        return []
    about = f"output {name!r} {_shape(array)}: names the class itself"
    return [Reading(name, "named", about, class_labels.places(wanted, values), -1, len(values), 0.0, values)]


def _unlabelled(reference: Outputs) -> Reading:
    """The reading for agreement with float32: an output that names classes, else columns of probabilities, else the
    first output."""
    for name, array in reference.items():
        if array.ndim and array.dtype.kind in "iub" and array.size == len(array):
            values = np.unique(array)
            return Reading(
                name, "named", f"output {name!r}: names the class itself", None, -1, len(values), 0.0, values
            )
    floats = {name: array for name, array in reference.items() if array.dtype.kind == "f" and array.ndim}
    if not floats:
        raise BadInput(f"no output holds numbers to compare: {_listed(reference)}")
    name = next((name for name, array in floats.items() if are_probabilities(array)), next(iter(floats)))
    array = floats[name]
    if array.size == len(array):
        threshold = _threshold(array)
        return Reading(name, "threshold", f"output {name!r}: class 1 above {threshold:g}", None, 1, 2, threshold)
    axis = class_axis(array)
    about = f"output {name!r} {_shape(array)}: the largest along axis {axis % array.ndim}"
    return Reading(name, "argmax", about, None, axis, array.shape[axis])


def are_probabilities(array: Array) -> bool:
    """Whether the rows of a [rows, classes] output are between 0 and 1 and sum to 1."""
    if array.ndim != 2 or array.shape[1] < 2 or array.dtype.kind != "f" or not np.isfinite(array).all():
        return False
    inside = bool((array >= -PROBABILITY_ERROR).all() and (array <= 1 + PROBABILITY_ERROR).all())
    return inside and bool((np.abs(array.astype(np.float64).sum(axis=1) - 1) < PROBABILITY_ERROR * 10).all())


def class_axis(array: Array) -> int:
    """The axis of the classes where no labels tell: the last, or axis 1 of images with few channels."""
    return 1 if array.ndim == 4 and array.shape[1] <= array.shape[-1] else -1


def _threshold(array: Array) -> float:
    """0.5 for probabilities, else 0: a logit or a distance."""
    finite = array[np.isfinite(array)]
    return 0.5 if finite.size and float(finite.min()) >= 0 and float(finite.max()) <= 1 else 0.0


def _votes(array: Array, classes: int) -> Array:
    """The class with the most votes; a positive column of the pair (i, j) is a vote for i, as in libsvm."""
    votes = np.zeros((len(array), classes), np.int64)
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    for at, (i, j) in enumerate(pairs):
        first = array[:, at] > 0
        votes[first, i] += 1
        votes[~first, j] += 1
    return np.asarray(votes.argmax(axis=1))


def _refusal(reference: Outputs, labels: Array, names: Sequence[str]) -> str:
    kind = "words" if labels.dtype.kind in "OUS" else f"{labels.dtype}"
    advice = (
        "labels are words: give the class names in the order of the model's columns with --labels a,b,c"
        if labels.dtype.kind in "OUS" and not names
        else "give labels as class indices from 0, or --metric module:function, which gets all outputs"
    )
    distinct = np.unique(labels)
    shown = f"from {distinct[0]} to {distinct[-1]}" if distinct.size else "none"
    return (
        f"labels of {kind} {list(labels.shape)} ({distinct.size} different, {shown}) fit no output as classes; the "
        f"outputs are {_listed(reference)}: {advice}"
    )


def _listed(outputs: Outputs) -> str:
    return ", ".join(f"{name} {array.dtype}{_shape(array)}" for name, array in outputs.items())


def _shape(array: Array) -> str:
    return f"[{', '.join(['rows', *map(str, array.shape[1:])])}]"
