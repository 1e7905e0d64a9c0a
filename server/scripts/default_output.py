"""The default ``output_fn``: a prediction as JSON, CSV or npy.

A prediction that cannot be written is the script's fault (ModelFailed, 500). NotAcceptable (406) means that another
media type could hold it.
"""

from __future__ import annotations

import base64
import io
from collections import deque
from collections.abc import KeysView, Mapping, ValuesView
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson

from ..errors import ModelFailed, NotAcceptable
from ..tensors import Array
from .media_types import ANY, CSV, JSON, NPY, by_weight

OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
LISTS = (list, tuple, set, frozenset, range, deque, KeysView, ValuesView)
WORD = 1 << 63
"""Beyond a signed 64-bit integer the JSON writer has no number of its own."""
MAX_DEPTH = 200
MISSING = "NAType"
"""The class of pandas' missing value."""


def encode(prediction: Any, accept: str) -> tuple[bytes, str]:
    """The body and its media type. Raises NotAcceptable or ModelFailed."""
    for name in by_weight(accept):
        if name in (JSON, ANY, "application/*"):
            return to_json(prediction), JSON
        if name in (CSV, "text/*"):
            return _to_csv(prediction), CSV
        if name == NPY:
            return _to_npy(prediction), NPY
    raise NotAcceptable(f'Accept "{accept[:100]}" is not supported; without an output_fn {JSON}, {CSV} and {NPY} are')


def to_json(prediction: Any, bytes_as_base64: bool = False) -> bytes:
    """The JSON text of a prediction. NaN and infinity are ``null``.

    Bytes are written as text; with ``bytes_as_base64``, bytes that are not text become TensorFlow's ``{"b64": ...}``.
    Raises ModelFailed if JSON cannot hold the prediction.
    """
    plain = _plain_or_base64 if bytes_as_base64 else _plain
    try:
        return orjson.dumps(prediction, default=plain, option=OPTIONS)
    except (TypeError, RecursionError):
        pass  # keys of numpy, foreign byte orders, whole numbers beyond 64 bits: the slower way
    try:
        return orjson.dumps(_normalised(prediction, 0), default=plain, option=OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        reason = error.__cause__ or error
        raise ModelFailed(
            f"the prediction ({type(prediction).__name__}) cannot be written as JSON: {str(reason)[:200]}"
        ) from error


def _plain(value: Any) -> Any:
    """A value that the JSON writer knows, for one that it does not. Raises TypeError."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _text(bytes(value))
    if hasattr(value, "detach"):
        return _detached(value)
    if isinstance(value, (date, time)):
        return value.isoformat() if value == value else None  # pandas' NaT differs from itself
    if isinstance(value, np.longdouble):
        return float(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "to_numpy"):  # a data frame: its rows
        return value.to_numpy()
    if isinstance(value, LISTS):
        return list(value)
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value)) if value.is_finite() else None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return dict(value)
    if type(value).__name__ == MISSING:
        return None
    raise TypeError(f"JSON has no form for a {type(value).__name__}")


def _plain_or_base64(value: Any) -> Any:
    try:
        return _plain(value)
    except TypeError:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise
        return {"b64": base64.b64encode(bytes(value)).decode()}


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise TypeError("it holds bytes that are not text in UTF-8; write an output_fn for them") from error


def _normalised(value: Any, depth: int) -> Any:
    """Nested lists and dictionaries with plain keys and numbers. Raises TypeError."""
    if depth > MAX_DEPTH:
        raise TypeError("it is nested too deeply")
    if isinstance(value, Mapping):
        return {_key(key): _normalised(one, depth + 1) for key, one in value.items()}
    if isinstance(value, LISTS):
        return [_normalised(one, depth + 1) for one in value]
    if isinstance(value, np.ndarray) and (value.dtype.kind in "OM" or not value.dtype.isnative):
        return _normalised(value.tolist(), depth + 1)
    if type(value) is int and not -WORD <= value < 2 * WORD:
        return orjson.Fragment(str(value))
    return value


def _key(key: Any) -> Any:
    if isinstance(key, np.generic):
        key = key.item()
    return _text(key) if isinstance(key, bytes) else key


def _detached(tensor: Any) -> Array:
    """A torch tensor as a numpy array: without its gradient, from any device; bfloat16 as float32."""
    tensor = tensor.detach().cpu()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array


def _to_csv(prediction: Any) -> bytes:
    array = _array(prediction)
    if array.ndim not in (1, 2):
        raise NotAcceptable(f"{CSV} holds one or two axes, not {array.ndim}; ask for {JSON}")
    rows = array.reshape(-1, 1) if array.ndim == 1 else array
    return "".join(",".join(map(_cell, row)) + "\n" for row in rows.tolist()).encode(errors="replace")


def _cell(value: Any) -> str:
    if value is None or type(value).__name__ == MISSING:
        value = ""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') or not text else text


def _to_npy(prediction: Any) -> bytes:
    stream = io.BytesIO()
    array = _array(prediction)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(np.str_)
    try:
        np.save(stream, array, allow_pickle=False)
    except ValueError as error:
        raise NotAcceptable(f"{NPY} cannot hold this prediction; ask for {JSON}") from error
    return stream.getvalue()


def _array(prediction: Any) -> Array:
    if hasattr(prediction, "detach"):
        return _detached(prediction)
    if isinstance(prediction, np.ma.MaskedArray) and prediction.dtype.kind in "iuf":
        return np.where(np.ma.getmaskarray(prediction), np.nan, prediction.data)
    if isinstance(prediction, LISTS):
        prediction = [_detached(one) if hasattr(one, "detach") else one for one in prediction]
    try:
        return np.asarray(prediction)
    except ValueError as error:
        raise NotAcceptable(f"the prediction is ragged; ask for {JSON}") from error
