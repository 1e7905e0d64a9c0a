"""Inputs of an estimator: one matrix, one text per row, or one named column per input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.tensors import Array

from ..errors import BadInput
from ..evaluation.dataset import Dataset

MATRIX, NAMED_MATRIX, TEXTS, COLUMNS = "matrix", "named matrix", "texts", "columns"


@dataclass(frozen=True, slots=True)
class EstimatorInputs:
    """``names`` and ``arrays`` (two example rows) of the inputs, and the form in which the estimator takes them.

    ``features``: the names of the columns that the estimator was trained on, in its order; empty if it has none.
    """

    form: str
    names: tuple[str, ...]
    arrays: Mapping[str, Array]
    features: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: Any, data: Dataset) -> EstimatorInputs:
        """Match the data with the inputs of ``model``. Raises BadInput."""
        if data.shared:
            raise BadInput(f"{data.shared[0]!r} has no rows on axis 0: an estimator takes one value per row")
        names, arrays = tuple(data.inputs), data.batch(2)
        features = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
        if len(names) > 1 or (features and set(names) == set(features)):
            return cls(COLUMNS, _columns(names, arrays, features), arrays, features)
        array = arrays[names[0]]
        if array.dtype.kind == "O" and (array.ndim == 1 or (array.shape[1:] == (1,) and _takes_texts(model))):
            return cls(TEXTS, names, arrays)
        _check_matrix(names[0], array)
        return cls(NAMED_MATRIX if features else MATRIX, names, arrays, features)

    def assemble(self, batch: Mapping[str, Array]) -> Any:
        """Return the rows of ``batch`` as the estimator takes them: an array, a list of texts, or a DataFrame."""
        if self.form == MATRIX:
            return batch[self.names[0]]
        if self.form == TEXTS:
            return [str(text) for text in batch[self.names[0]].reshape(-1)]
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise BadInput("columns by name need the extra 'classic': pip install -e '.[classic]'") from error
        if self.form == NAMED_MATRIX:
            return pandas.DataFrame(batch[self.names[0]], columns=list(self.features))
        return pandas.DataFrame({name: batch[name].reshape(-1) for name in self.features})

    @property
    def columns(self) -> int:
        """The number of columns of the matrix."""
        return int(self.arrays[self.names[0]].shape[1])


def _columns(names: Sequence[str], arrays: Mapping[str, Array], features: Sequence[str]) -> tuple[str, ...]:
    if not features:
        raise BadInput(
            f"the model takes one matrix of features, the data holds {', '.join(names)}: columns by name need a model "
            "that was trained on a DataFrame"
        )
    missing = [name for name in features if name not in arrays]
    if missing:
        raise BadInput(f"the model's column {missing[0]!r} is not in the data, which has {', '.join(names)}")
    extra = [name for name in names if name not in features]
    if extra:
        raise BadInput(f"the data holds {extra[0]!r}, which is not a column of the model: {', '.join(features)}")
    for name in features:
        if arrays[name].ndim > 1 and arrays[name].shape[1:] != (1,):
            raise BadInput(f"{name!r} is {list(arrays[name].shape)} in the data: a column is [rows] or [rows, 1]")
    return tuple(features)


def _check_matrix(name: str, array: Array) -> None:
    if array.ndim != 2 or (array.dtype != np.float32 and array.dtype.kind != "O"):
        raise BadInput(
            f"{name!r} is {array.dtype}{list(array.shape)}: the model takes float32 [rows, features]; "
            "write it with .astype('float32')"
        )


def _takes_texts(model: Any) -> bool:
    """Whether the first step of ``model`` splits texts into tokens."""
    steps = getattr(model, "steps", None)
    first = steps[0][1] if steps else model
    return hasattr(first, "build_analyzer")
