"""Labels: class indices from the conventions in which data sets name classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.tensors import Array


def to_indices(labels: Array, classes: int, names: Sequence[str]) -> tuple[Array, str] | None:
    """Labels as class indices with their convention in words, or None if they do not fit ``classes`` columns."""
    if names and len(names) == classes:
        index = {str(name): at for at, name in enumerate(names)}
        given = [text(value) for value in labels.reshape(-1)]
        if all(value in index for value in given):
            found = np.array([index[value] for value in given], np.int64).reshape(labels.shape)
            return found, f"named {', '.join(map(str, names[:8]))}{', ...' if len(names) > 8 else ''}"
    whole = whole_numbers(labels)
    if whole is None or not whole.size:
        return None
    low, high = int(whole.min()), int(whole.max())
    if low >= 0 and high < classes:
        return whole, f"0 to {classes - 1}"
    if classes == 2 and set(np.unique(whole)) == {-1, 1}:
        return (whole + 1) // 2, "-1 and 1"
    if low >= 1 and high == classes:
        return whole - 1, f"1 to {classes}"
    return None


def whole_numbers(labels: Array) -> Array | None:
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        return labels.astype(np.int64)
    return None


def places(values: Array, known: Array | None) -> Array:
    """The place of each value among ``known``; unknown ones get places behind them."""
    if known is None:
        raise ValueError("the classes are not known")
    if known.dtype.kind in "OUS":
        values = values.astype(str)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[place] == values, place, len(known)).astype(np.int64)


def text(value: object) -> str:
    """A label as the text of a class name: 1.0 and 1 are the same class."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
