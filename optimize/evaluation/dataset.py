"""Evaluation and calibration data: rows of inputs by name, with their labels, read from ``.npz`` files."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from server.artifact import digest
from server.tensors import BY_NUMPY, Array

from ..errors import BadInput

LABELS = "labels"
"""The one array name in a file that is not an input of the model."""

STATE_RANK = 3
"""The least number of axes of a state that all rows share, such as ``[layers, 1, width]``."""

RESERVED_SHARE = 0.2
"""Share of the evaluation rows that calibrate when no calibration file is given."""

RESERVED_MOST = 512
"""More rows hardly improve quantization ranges, but they do improve the evaluation."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The place of the rows in the inputs of one run.

    ``row_axes``: the axis of the rows by input name, None for a value that all rows share; absent names have axis 0.
    ``run_rows``: the only number of rows that a run takes, or None for any number.
    """

    row_axes: Mapping[str, int | None] = field(default_factory=dict)
    run_rows: int | None = None

    def of(self, name: str) -> int | None:
        return self.row_axes.get(name, 0)


ROWS_FIRST = Layout()
"""The usual layout: axis 0 of every input holds the rows, and a run takes any number of them."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """``inputs``: arrays by input name, all with the same number of rows on the axis that
    ``layout`` names. ``labels``: one per row, or None.

    ``sha256`` is the digest of the file that the rows came from.
    """

    inputs: Mapping[str, Array]
    labels: Array | None
    sha256: str
    layout: Layout = ROWS_FIRST

    @property
    def rows(self) -> int:
        places = ((array, self.layout.of(name)) for name, array in self.inputs.items())
        return next((array.shape[axis] for array, axis in places if axis is not None), 1)

    def take(self, indices: Array) -> Dataset:
        """The rows at ``indices`` (integers), in that order."""
        labels = None if self.labels is None else self.labels[indices]
        return replace(self, inputs=_frozen(self._at(indices)), labels=labels)

    def batch(self, rows: int, offset: int = 0) -> dict[str, Array]:
        """``rows`` rows of every input from ``offset`` on, wrapping so that small sets fill large batches."""
        return self._at((np.arange(self.layout.run_rows or rows) + offset) % self.rows)

    def _at(self, indices: Array) -> dict[str, Array]:
        axes = ((name, array, self.layout.of(name)) for name, array in self.inputs.items())
        return {
            # Not ascontiguousarray, which turns a scalar into an array of one.
            name: np.asarray(array if axis is None else np.take(array, indices, axis), order="C")
            for name, array, axis in axes
        }

    def select(self, names: tuple[str, ...]) -> Dataset:
        """Only the inputs of these names. Raises BadInput when one is missing."""
        missing = [name for name in names if name not in self.inputs]
        if missing:
            raise BadInput(
                f"the model's input {missing[0]!r} is not in the data, which has {', '.join(sorted(self.inputs))}: "
                "arrays are keyed by the names of the parameters of forward()"
            )
        return replace(self, inputs=_frozen({name: self.inputs[name] for name in names}))

    @property
    def shared(self) -> tuple[str, ...]:
        """The inputs whose rows are not on axis 0."""
        return tuple(name for name in self.inputs if self.layout.of(name) != 0)


@dataclass(frozen=True, slots=True)
class Split:
    """The calibration rows and the evaluation rows. ``note`` says where they come from and whether they overlap.

    ``indices``: the evaluation rows in the order of the file, or None for all of them.
    """

    calibration: Dataset
    evaluation: Dataset
    note: str
    indices: Array | None = None


def read(path: Path) -> Dataset:
    """Read a ``.npz`` file without pickle: an array per input, rows on axis 0, and ``labels`` if there are any.

    Raises BadInput: no such file, not an npz, object arrays, no inputs, no rows, or different numbers of rows.
    """
    if not path.is_file():
        raise BadInput(
            f"{path} does not exist: give an .npz file with an array per input and, for most metrics, labels"
        )
    if not zipfile.is_zipfile(path):
        raise BadInput(f"{path} is not an .npz file: write one with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read as an .npz file: {error}") from error
    labels = arrays.pop(LABELS, None)
    if not arrays:
        raise BadInput(f"{path} holds no input: every array but {LABELS!r} is an input, keyed by its name")
    row_axes = _row_axes(path, arrays, labels)
    arrays = {name: loaded(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype not in BY_NUMPY:
            raise BadInput(f"{name!r} in {path} has dtype {array.dtype}, which no model takes")
    return Dataset(_frozen(arrays), labels, digest(path), Layout(row_axes))


def storable(array: Array) -> Array:
    """Return texts as fixed-width unicode, which numpy writes without pickle; other arrays are returned as they are."""
    return array.astype(str) if array.dtype.kind == "O" else array


def loaded(array: Array) -> Array:
    """Return fixed-width texts as objects, which the backends take; other arrays are returned as they are."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    return array.astype(object) if array.dtype.kind == "U" else array


def store(data: Dataset, directory: Path) -> None:
    """Write the rows for :func:`stored`; child processes then map them instead of receiving copies."""
    directory.mkdir(parents=True, exist_ok=True)
    for position, array in enumerate(data.inputs.values()):
        np.save(directory / f"{position}.npy", storable(array))
    index = {"names": list(data.inputs), "sha256": data.sha256, "layout": asdict(data.layout)}
    (directory / "names.json").write_text(json.dumps(index))


def stored(directory: Path) -> Dataset:
    """The rows that :func:`store` has written, without their labels, mapped into memory."""
    index = json.loads((directory / "names.json").read_text())
    arrays = {
        name: loaded(np.load(directory / f"{position}.npy", mmap_mode="r"))
        for position, name in enumerate(index["names"])
    }
    return Dataset(_frozen(arrays), None, index["sha256"], Layout(**index["layout"]))


def _row_axes(path: Path, arrays: Mapping[str, Array], labels: Array | None) -> dict[str, int | None]:
    """Find the axis of the rows of each input, if it is not axis 0.

    A single number is shared by all rows. A state such as ``[layers, rows, width]`` has its rows on a later axis; with
    one entry there, all rows share it. Raises BadInput for other differences in the number of rows.
    """
    counts = {name: len(array) for name, array in arrays.items() if array.ndim}
    if labels is not None:
        if labels.ndim == 0:
            raise BadInput(f"{LABELS!r} in {path} is a single number: give one label per row")
        counts[LABELS] = len(labels)
    if not counts:
        raise BadInput(f"{path} holds only single numbers: one input must have rows on axis 0")
    rows = len(labels) if labels is not None else Counter(counts.values()).most_common(1)[0][0]
    if rows == 0:
        raise BadInput(f"the arrays in {path} have no rows")
    found: dict[str, int | None] = {}
    for name, array in arrays.items():
        if array.ndim == 0:
            found[name] = None
        elif len(array) != rows and rows in array.shape[1:]:
            found[name] = array.shape.index(rows, 1)
        elif len(array) != rows and array.ndim >= STATE_RANK and 1 in array.shape[1:]:
            found[name] = None
        elif len(array) != rows:
            listed = ", ".join(f"{key} {count}" for key, count in counts.items())
            raise BadInput(f"the arrays in {path} have different numbers of rows: {listed}")
    return found


def arranged(data: Dataset, ranks: Mapping[str, int], layout: Layout) -> Dataset:
    """Return ``data`` in the layout of a model whose inputs have these ``ranks``.

    An input may have one axis more than the model: axis 0 then holds one value of the model's rank per row. An input
    that all rows share is repeated where the model wants one entry per row. Raises BadInput if neither fits.
    """
    rows = data.rows
    inputs = {}
    for name, array in data.inputs.items():
        axis, given = layout.of(name), data.layout.of(name)
        if array.ndim == ranks[name] + 1 and given == 0:
            if axis is None:
                inputs[name] = _only(name, array)
            elif array.shape[axis + 1] == 1:
                inputs[name] = np.moveaxis(array.squeeze(axis + 1), 0, axis)
            else:
                raise BadInput(f"each row of {name!r} is {list(array.shape[1:])}: axis {axis} must have size 1")
        elif array.ndim == ranks[name] == 0 or axis == given:
            inputs[name] = array
        elif given is None and axis is not None and array.ndim > axis and array.shape[axis] == 1:
            inputs[name] = np.repeat(array, rows, axis)
        elif axis is None:
            inputs[name] = _only(name, array)
        else:
            raise BadInput(f"{name!r} is {list(array.shape)} in the data: axis {axis} must hold the {rows} rows")
    return replace(data, inputs=_frozen(inputs), layout=layout)


def _only(name: str, array: Array) -> Array:
    """Return the value that all rows of ``array`` share. Raises BadInput if they differ."""
    if not (array == array[:1]).all():
        raise BadInput(f"{name!r} differs between rows, but the model takes one value for all rows of a run")
    return np.array(array[0])


def split(evaluation: Dataset, calibration: Dataset | None, seed: int) -> Split:
    """Separate the calibration rows from the evaluation rows.

    Without a calibration set, a seeded share of the evaluation rows is reserved for calibration and not evaluated on,
    because evaluating on calibration rows would flatter the result. With one, the rows in both sets are counted.
    Raises BadInput when there are too few rows to reserve any.
    """
    if calibration is None:
        reserved = min(RESERVED_MOST, round(RESERVED_SHARE * evaluation.rows))
        if reserved < 1:
            raise BadInput(f"{evaluation.rows} evaluation rows are too few to reserve some: give --calibration")
        order = np.random.default_rng(seed).permutation(evaluation.rows)
        note = f"{reserved} of the {evaluation.rows} evaluation rows reserved for calibration and not evaluated on"
        kept = np.sort(order[reserved:])
        return Split(evaluation.take(np.sort(order[:reserved])), evaluation.take(kept), note, kept)
    known = set(_row_keys(evaluation))
    shared = sum(key in known for key in _row_keys(calibration, evaluation.inputs))
    note = f"{calibration.rows} calibration rows from their own file"
    if shared:
        note += f"; {shared} of them are also evaluation rows, which flatters every calibrated candidate"
    return Split(calibration, evaluation, note)


def _row_keys(data: Dataset, names: Mapping[str, Array] | None = None) -> list[bytes]:
    ordered = sorted(names or data.inputs)
    arrays = [
        np.ascontiguousarray(np.moveaxis(storable(data.inputs[name]), axis, 0))
        for name in ordered
        if name in data.inputs and (axis := data.layout.of(name)) is not None
    ]
    return [b"".join(array[row].tobytes() for array in arrays) for row in range(data.rows)]


def _frozen(arrays: dict[str, Array]) -> Mapping[str, Array]:
    return MappingProxyType(arrays)
