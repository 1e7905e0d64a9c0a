"""Evaluation and calibration data: rows of inputs by name, with their labels, read from ``.npz`` files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from server.artifact import digest
from server.tensors import BY_NUMPY, Array

from ..errors import BadInput

LABELS = "labels"
"""The one array name in a file that is not an input of the model."""

RESERVED_SHARE = 0.2
"""Share of the evaluation rows that calibrate when no calibration file is given."""

RESERVED_MOST = 512
"""More rows hardly improve quantization ranges, but they do improve the evaluation."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """``inputs``: arrays by input name, all with the same number of rows on axis 0. ``labels``: one per row, or None.

    ``sha256`` is the digest of the file that the rows came from.
    """

    inputs: Mapping[str, Array]
    labels: Array | None
    sha256: str

    @property
    def rows(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, indices: Array) -> Dataset:
        """The rows at ``indices`` (integers), in that order."""
        labels = None if self.labels is None else self.labels[indices]
        return Dataset(_frozen({name: array[indices] for name, array in self.inputs.items()}), labels, self.sha256)

    def batch(self, rows: int, offset: int = 0) -> dict[str, Array]:
        """``rows`` rows of every input from ``offset`` on, wrapping so that small sets fill large batches."""
        indices = (np.arange(rows) + offset) % self.rows
        return {name: np.ascontiguousarray(array[indices]) for name, array in self.inputs.items()}

    def select(self, names: tuple[str, ...]) -> Dataset:
        """Only the inputs of these names. Raises BadInput when one is missing."""
        missing = [name for name in names if name not in self.inputs]
        if missing:
            raise BadInput(
                f"the model's input {missing[0]!r} is not in the data, which has {', '.join(sorted(self.inputs))}: "
                "arrays are keyed by the names of the parameters of forward()"
            )
        return Dataset(_frozen({name: self.inputs[name] for name in names}), self.labels, self.sha256)


@dataclass(frozen=True, slots=True)
class Split:
    """The calibration rows and the evaluation rows. ``note`` says where they come from and whether they overlap."""

    calibration: Dataset
    evaluation: Dataset
    note: str


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
    _check_rows(path, arrays if labels is None else {**arrays, LABELS: labels})
    for name, array in arrays.items():
        if array.dtype not in BY_NUMPY:
            raise BadInput(f"{name!r} in {path} has dtype {array.dtype}, which no model takes")
    return Dataset(_frozen(arrays), labels, digest(path))


def store(data: Dataset, directory: Path) -> None:
    """Write the rows for :func:`stored`; child processes then map them instead of receiving copies."""
    directory.mkdir(parents=True, exist_ok=True)
    for position, array in enumerate(data.inputs.values()):
        np.save(directory / f"{position}.npy", array)
    (directory / "names.json").write_text(json.dumps({"names": list(data.inputs), "sha256": data.sha256}))


def stored(directory: Path) -> Dataset:
    """The rows that :func:`store` has written, without their labels, mapped into memory."""
    index = json.loads((directory / "names.json").read_text())
    arrays = {
        name: np.load(directory / f"{position}.npy", mmap_mode="r") for position, name in enumerate(index["names"])
    }
    return Dataset(_frozen(arrays), None, index["sha256"])


def _check_rows(path: Path, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if array.ndim == 0:
            raise BadInput(f"{name!r} in {path} is a single number: rows belong on axis 0")
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise BadInput(f"the arrays in {path} have different numbers of rows: {listed}")
    if min(counts.values()) == 0:
        raise BadInput(f"the arrays in {path} have no rows")


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
        return Split(evaluation.take(np.sort(order[:reserved])), evaluation.take(np.sort(order[reserved:])), note)
    known = set(_row_keys(evaluation))
    shared = sum(key in known for key in _row_keys(calibration, evaluation.inputs))
    note = f"{calibration.rows} calibration rows from their own file"
    if shared:
        note += f"; {shared} of them are also evaluation rows, which flatters every calibrated candidate"
    return Split(calibration, evaluation, note)


def _row_keys(data: Dataset, names: Mapping[str, Array] | None = None) -> list[bytes]:
    ordered = sorted(names or data.inputs)
    arrays = [np.ascontiguousarray(data.inputs[name]) for name in ordered if name in data.inputs]
    return [b"".join(array[row].tobytes() for array in arrays) for row in range(data.rows)]


def _frozen(arrays: dict[str, Array]) -> Mapping[str, Array]:
    return MappingProxyType(arrays)
